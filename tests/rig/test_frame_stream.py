"""``for frame in fusepipe.stream(...)``: its frames, and that its threads end however the loop is left."""

import contextlib
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

import fusepipe
from fusepipe.core.errors import ConfigError, FusepipeError, SourceError, UsageError
from fusepipe.core.frames import Band
from fusepipe.core.image_files import to_bgr
from fusepipe.pipeline.testing import MS, ListSource, frame

STREET = "synthetic://street?size={}&duration={}"
IR, VIS = STREET.format("80x60", "100h"), STREET.format("160x120", "100h")
SHORT_IR, SHORT_VIS = STREET.format("80x60", "400ms"), STREET.format("160x120", "400ms")

RIG = f"""
schema: 1
rigs:
  one:
    infrared: {{url: "{SHORT_IR}"}}
    visible: {{url: "{SHORT_VIS}"}}
    fusion: {{model: mean}}
    sinks: [{{file: out/one.mkv}}]
"""


@pytest.fixture(autouse=True)
def _no_threads_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) - before == set()


def listed(band, count=10):
    return ListSource(band, [frame(band, i, i * 40 * MS) for i in range(count)])


def test_all_frames_of_recordings_come_in_order():
    frames = list(fusepipe.stream(SHORT_IR, SHORT_VIS, model="mean"))
    assert [f.index for f in frames] == list(range(10))
    assert [f.capture_ns for f in frames] == [i * 40 * MS for i in range(10)]
    assert {f.state for f in frames} == {"fused"}
    assert all(f.bgr.shape == (120, 160, 3) and f.bgr.dtype == np.uint8 for f in frames)
    np.testing.assert_array_equal(frames[3].bgr, to_bgr(frames[3]))


def test_a_grey_frame_has_three_equal_channels():
    (first, *_) = fusepipe.stream(listed(Band.INFRARED), listed(Band.VISIBLE), model="mean")
    assert len(first.planes) == 1
    np.testing.assert_array_equal(first.bgr, cv2.cvtColor(first.planes[0].pixels, cv2.COLOR_GRAY2BGR))


def test_break_ends_the_threads():
    for one in fusepipe.stream(IR, VIS, model="mean"):  # without an end
        if one.index == 3:
            break
    assert one.index == 3


def test_an_exception_in_the_loop_ends_the_threads():
    def work():
        for one in fusepipe.stream(IR, VIS, model="mean"):
            raise ZeroDivisionError(one.index)

    with pytest.raises(ZeroDivisionError):
        work()


def test_a_generator_that_is_kept_ends_with_close():
    with contextlib.closing(fusepipe.stream(IR, VIS, model="mean")) as frames:
        assert next(frames).index == 0
        assert any(thread.name.startswith("stream/") for thread in threading.enumerate())
    assert list(frames) == []


def test_one_that_is_never_started_opens_nothing():
    frames = fusepipe.stream(IR, VIS, model="mean")
    assert not any(thread.name.startswith("stream/") for thread in threading.enumerate())
    frames.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("url", ["", "&pace=real"])
def test_a_program_that_keeps_a_generator_ends(url):
    code = f"import fusepipe; frames = fusepipe.stream({IR + url!r}, {VIS + url!r}, model='mean'); next(frames)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr


def test_cameras_give_the_newest_frame_to_a_slow_loop():
    wait, indices = threading.Event(), []
    for one in fusepipe.stream(IR + "&pace=real", VIS + "&pace=real", model="mean"):
        indices.append(one.index)
        if len(indices) == 4:
            break
        wait.wait(0.5)  # 12 frames at 25 a second
    assert indices[-1] - indices[1] >= 12


def test_a_rig_of_a_file_streams_and_writes_nothing(tmp_path):
    (tmp_path / "rigs.yaml").write_text(RIG)
    assert len(list(fusepipe.stream(tmp_path / "rigs.yaml"))) == 10
    assert len(list(fusepipe.stream(str(tmp_path / "rigs.yaml"), name="one", max_pairs=4))) == 4
    assert len(list(fusepipe.stream(fusepipe.load_rig(tmp_path / "rigs.yaml"), duration_s=0.2))) == 5
    assert not (tmp_path / "out").exists()


def test_folders_and_options(tmp_path):
    counts = np.tile(np.arange(7000, 7600, 10, dtype=np.uint16), (40, 1))
    for folder, image in (("ir", counts), ("vis", np.zeros((40, 60), np.uint8))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "1.png"), image)
    (one,) = fusepipe.stream(tmp_path / "ir", str(tmp_path / "vis"), model="max", infrared_range=(7000, 7590))
    assert one.name == "1" and one.bgr.min() == 0 and one.bgr.max() == 255


class FailingSource(ListSource):
    """Fails after its frames."""

    def frames(self, stop):
        yield from super().frames(stop)
        raise SourceError("the cable is gone")


def test_own_sources_and_their_errors():
    failing = FailingSource(Band.VISIBLE, [frame(Band.VISIBLE, i, i * 40 * MS) for i in range(3)])
    infrared, seen = listed(Band.INFRARED), []
    with pytest.raises(SourceError, match="the cable is gone"):
        seen.extend(fusepipe.stream(infrared, failing, model="mean"))
    assert infrared.closed and failing.closed


class OwnCamera(ListSource):
    """Yields frames at real time, without stamps, as programs make them."""

    def frames(self, stop):
        for item in self._frames:
            if stop.wait(0.02):
                return
            yield fusepipe.frame_of_array(item.luma.pixels, self.band, index=item.index, capture_ns=item.capture_ns)


def test_own_cameras_are_paired_by_their_clocks():
    made = {band: [frame(band, i, i * 20 * MS) for i in range(200)] for band in Band}
    cameras = [OwnCamera(band, made[band], clock="wall") for band in (Band.INFRARED, Band.VISIBLE)]
    states = [str(f.state) for f in fusepipe.stream(*cameras, model="mean", duration_s=1)]
    assert states.count("fused") >= 20


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("a.mkv",), {}, "a.mkv: is no rigs.yaml, and visible is missing"),
        ((3, VIS), {}, "infrared is a int: give a path, a URL or a Source"),
        ((None,), {}, "give infrared and visible, or a rig"),
        ((IR, VIS), {"tolernce": "2ms"}, r"no argument 'tolernce' \(did you mean 'tolerance'\?\)"),
        ((IR, VIS), {"tolerance": "2 cm"}, "2 cm"),
        ((IR, VIS), {"name": "one"}, "a rig has its own inputs"),
        ((IR, VIS), {"model": "strm"}, "did you mean 'stream'"),
        (("rigs.yaml",), {"model": "mean"}, "a rig has its own settings"),
        ((listed(Band.VISIBLE), VIS), {}, "the infrared source has band = "),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named_at_once(arguments, options, message):
    with pytest.raises(UsageError, match=message):
        fusepipe.stream(*arguments, **options)


def test_what_cannot_be_opened_is_raised_by_the_loop(tmp_path):
    frames = fusepipe.stream(tmp_path / "no.mkv", VIS)
    with pytest.raises(SourceError, match=r"no\.mkv: no such file"):
        next(frames)
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        fusepipe.stream(tmp_path / "no.yaml")
    assert issubclass(ConfigError, FusepipeError)
