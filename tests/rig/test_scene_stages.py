"""Stages that follow the scene: one run that continues another gives the images of a run without an end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fusepipe.config.schema import Rig
from fusepipe.core.counts import RIG_KEYS
from fusepipe.core.frames import Band, Frame, FramePair, PairState, Plane
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.sources.files.undecoded import NO_IMAGE
from fusepipe.pipeline.stages.scene_state import scene_state
from fusepipe.rig.factories.scene_stages import SceneStages, make_scene_stages
from fusepipe.rig.factories.sensor_corrections import with_denoising

FRAMES, SEAM = 60, 23  # at 10 Hz: 6 s, the other run continues after 2.3
SIZE = 64, 48
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "auto": {},
    "plateau": {"agc": "plateau"},
    "local": {"agc": {"mode": "local", "adapt": "200ms"}},
    "off": {"agc": "off", "polarity": "black-hot"},
    "repair": {"repair": {"dead_pixels": "auto", "stripes": "both"}},
    "known pixels": {"repair": {"dead_pixels": [[3, 4]]}, "agc": "off"},
    "noise": {"denoise": "auto", "repair": {"stripes": "rows"}},
}


def frames() -> list[Frame]:
    """A scene that moves, becomes hotter, and is seen by a sensor with stripes, dead pixels and noise."""
    random = np.random.default_rng(5)
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    stripes = random.normal(0, 6, SIZE[0])[None, :]
    made = []
    for index in range(FRAMES):
        counts = 8000 + 4 * x + 3 * y + 25 * index + stripes + random.normal(0, 5, x.shape)
        counts[10:20, index % 40 : index % 40 + 8] += 900
        if index > 30:
            counts += 800
        counts[20, 30], counts[5, 6] = 0, 65535 if index > 10 else counts[5, 6]
        plane = Plane(np.clip(counts, 0, 65535).astype(np.uint16), 16)
        made.append(Frame(Band.INFRARED, (plane,), index, index * 10**8, index, Fraction(1, 10)))
    return made


def stages(keys: Mapping[str, Any], warnings: list[str]) -> SceneStages:
    infrared = {"url": "ir.mkv", **keys}
    rig = Rig.model_validate({"name": "r", "infrared": infrared, "visible": {"url": "v.mkv"}, "base_dir": "/"})
    info = SourceInfo(width=SIZE[0], height=SIZE[1], fps=10.0, frames=None, grey=True, bit_depth=16, codec="ffv1")
    return make_scene_stages(rig, info, RIG_KEYS, warnings.append)


def pair_of(frame: Frame) -> FramePair:
    return FramePair(frame.index, PairState.SINGLE, Band.INFRARED, frame, None)


def lumas(run: SceneStages, made: list[Frame]) -> list[bytes]:
    """The luma of each frame, as a run makes it with an image that needs no registration."""

    def registered(pair: FramePair) -> FramePair:
        assert pair.infrared is not None
        return FramePair(
            pair.index, pair.state, pair.reference, pair.infrared, None, registered=pair.infrared.luma
        )  # fmt: skip

    register = with_denoising(run.noisy, registered)
    found = []
    for frame in made:
        pair = pair_of(frame)
        pair = register(pair if run.repair is None else run.repair(pair))
        luma = run.tone_map(pair).luma
        assert luma is not None
        found.append(luma.pixels.tobytes())
    return found


@pytest.mark.parametrize("keys", SETTINGS.values(), ids=SETTINGS)
def test_a_run_from_a_state_gives_the_images_of_one_run(keys: Mapping[str, Any]) -> None:
    made, warnings, more_warnings = frames(), list[str](), list[str]()
    whole = stages(keys, warnings)
    expected = lumas(whole, made)
    before = stages(keys, warnings)
    for frame in made[:SEAM]:
        before.follow(pair_of(frame))
    state = scene_state(before.state().to_bytes())
    after = stages(keys, more_warnings)
    after.restore(state)
    assert after.state().digest() == before.state().digest() == state.digest()
    assert lumas(after, made[SEAM:]) == expected[SEAM:]
    assert after.state().digest() == whole.state().digest(), "where the other run ended, a third one would continue"
    assert not more_warnings, "they are those of the first images"
    if keys not in (SETTINGS["off"], SETTINGS["known pixels"]):
        assert lumas(stages(keys, warnings), made[SEAM:]) != expected[SEAM:], "without the state it differs"


def test_a_state_is_taken_before_the_stages_change_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    made, run = frames(), stages(SETTINGS["repair"], [])
    lumas(run, made[:SEAM])
    state = run.state()
    digest = state.digest()
    lumas(run, made[SEAM:])
    assert state.digest() == digest != run.state().digest()


def test_what_is_no_state_is_refused() -> None:
    content = stages({}, []).state().to_bytes()
    for wrong in (b"", b"nothing", content[:-30]):
        with pytest.raises(ValueError, match="is not the state of a run"):
            scene_state(wrong)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("step_ns", [10**8, 4 * 10**7], ids=["10Hz", "25Hz"])
def test_images_that_no_stage_needs_make_no_difference(name: str, step_ns: int) -> None:
    made = [replace(frame, capture_ns=frame.index * step_ns) for frame in frames()]
    made[9] = replace(made[9], original=made[8].exposed)  # frozen
    made.insert(20, made[19])  # used twice
    all_seen, few = stages(SETTINGS[name], []), stages(SETTINGS[name], [])
    passed = 0
    for frame in made:
        all_seen.follow(pair_of(frame))
        if few.needs(replace(frame, planes=NO_IMAGE)):
            few.follow(pair_of(frame))
        else:
            few.pass_over(replace(frame, planes=NO_IMAGE))
            passed += 1
        assert few.state().digest() == all_seen.state().digest(), frame.index
    assert passed >= (2 if step_ns == 10**8 else len(made) // 2)
