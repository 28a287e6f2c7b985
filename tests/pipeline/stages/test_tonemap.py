"""Tone mapping: what is decided about gain control, the fixed range, polarity."""

from fractions import Fraction

import numpy as np
import pytest

from fusepipe.core.frames import Band, Frame, FramePair, PairState, Plane
from fusepipe.pipeline.stages.gain_control import GainSettings
from fusepipe.pipeline.stages.tonemap import ToneMap, ToneMapping

X, Y = np.meshgrid(np.arange(80.0), np.arange(60.0))
WAVE = (np.sin(X / 10) + np.cos(Y / 8)) / 4 + 0.5  # 0..1
AUTO = ToneMapping(gain=GainSettings(), automatic=True)
AUTO_8_BIT = ToneMapping(gain=GainSettings(), automatic=True, eight_bit=True)


def counts(low, high, kind=np.uint16):
    return (low + WAVE * (high - low)).astype(kind)


def pair(pixels, index=0, *, depth=16, warp=None):
    plane = Plane(pixels, depth if pixels.dtype == np.uint16 else 8)
    frame = Frame(Band.INFRARED, (plane,), index, index * 40_000_000, index, Fraction(1, 25))
    return FramePair(index, PairState.SINGLE, Band.INFRARED, frame, None, registered=plane, warp=warp)


class Mapped:
    """One run's tone mapping with what it says."""

    def __init__(self, mapping):
        self.warnings, self.notes = [], []
        self.stage = ToneMap(mapping, self.warnings.append, note=self.notes.append)

    def luma(self, *args, **options):
        return self.stage(pair(*args, **options)).luma.pixels


def test_without_settings_counts_are_mapped_from_the_full_range_and_8_bits_are_unchanged():
    mapped = Mapped(ToneMapping())
    pixels = counts(20, 220, np.uint8)
    assert mapped.luma(pixels).base is pixels or np.array_equal(mapped.luma(pixels), pixels)
    assert np.array_equal(mapped.luma(counts(0, 65535)), np.rint(counts(0, 65535) / 257).astype(np.uint8))
    assert mapped.stage.description == ""


def test_the_range_stays_fixed():
    mapped = Mapped(ToneMapping((7000, 7510)))
    first = mapped.luma(np.array([[6000, 7000], [7255, 9000]], np.uint16))
    assert first.tolist() == [[0, 0], [128, 255]]
    assert np.array_equal(mapped.luma(np.array([[7000, 7510]], np.uint16), 1), [[0, 255]])


@pytest.mark.parametrize("depth", [14, 16])
def test_auto_stretches_a_sliver_and_says_so_once(depth):
    mapped = Mapped(AUTO)
    first = mapped.luma(counts(7000, 7500), depth=depth)
    assert np.ptp(first) > 200 and mapped.warnings == []
    mapped.luma(counts(7000, 7500), 1, depth=depth)
    (note,) = mapped.notes
    assert "gain control is on (linear)" in note and "-bit values 70" in note
    assert mapped.stage.description.startswith("gain control: linear")


def test_auto_shows_an_image_that_fills_its_depth_as_it_is_for_the_whole_run():
    mapped = Mapped(AUTO)
    full = counts(2000, 60000)
    assert np.array_equal(mapped.luma(full), np.rint(full / 257).astype(np.uint8))
    assert np.ptp(mapped.luma(counts(7000, 7500), 1)) < 4  # decided once
    assert len(mapped.notes) == 1 and "without gain control" in mapped.notes[0]


def test_8_bit_images_have_it_only_if_asked_decided_at_the_first_image_with_contrast():
    narrow = counts(100, 150, np.uint8)
    assert np.array_equal(Mapped(AUTO).luma(narrow), narrow)
    mapped = Mapped(AUTO_8_BIT)
    mapped.luma(np.full((60, 80), 90, np.uint8))  # a closed shutter
    assert mapped.notes == []
    assert np.ptp(mapped.luma(narrow, 1)) > 200 and len(mapped.notes) == 1
    wide = Mapped(AUTO_8_BIT)
    assert np.array_equal(wide.luma(counts(10, 240, np.uint8)), counts(10, 240, np.uint8))
    assert np.array_equal(wide.luma(narrow, 1), narrow)


def test_auto_shows_a_scene_alike_in_8_and_in_16_bits():
    scene = counts(40, 190, np.uint8)  # three fifths of the range, as many cameras leave it
    sixteen = (7000 + 6 * scene.astype(np.uint16)).astype(np.uint16)
    one, other = (Mapped(AUTO_8_BIT).luma(image).astype(int) for image in (scene, sixteen))
    assert np.abs(one - other).mean() < 1 and np.abs(scene.astype(int) - other).mean() > 10


def test_a_closed_shutter_at_the_start_is_plain_grey_and_decides_nothing():
    mapped = Mapped(AUTO)
    assert 100 < mapped.luma(np.full((60, 80), 7000, np.uint16)).mean() < 150
    assert np.ptp(mapped.luma(counts(7000, 7500), 1)) > 200


def test_swapped_bytes_are_reported_with_gain_control_too():
    mapped = Mapped(AUTO)
    mapped.luma((counts(7000, 7500) + np.arange(80, dtype=np.uint16) % 3).byteswap())
    assert [text for text in mapped.warnings if "swapped" in text]


def test_counts_that_wrap_around_are_reported_once_with_gain_control_too():
    mapped = Mapped(AUTO)
    for index in range(3):
        mapped.luma(counts(15000, 18000) % 16384, index)
    assert len([text for text in mapped.warnings if "wrap around at 16384" in text]) == 1


@pytest.mark.parametrize("mapping", [ToneMapping(), AUTO])
def test_black_hot_inverts_within_the_view(mapping):
    class Half:
        valid = np.where(X < 40, 0, 255).astype(np.uint8)

    inverted = ToneMapping(gain=mapping.gain, automatic=mapping.automatic, polarity="black-hot")
    hot, cold = (Mapped(one).luma(counts(7000, 7500), warp=Half()) for one in (mapping, inverted))
    assert np.array_equal(hot[:, 40:], 255 - cold[:, 40:]) and not cold[:, :40].any()
