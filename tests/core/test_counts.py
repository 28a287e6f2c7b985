"""Counts of 16-bit images: little contrast, swapped bytes and counts that wrap around are recognised, nothing else."""

import cv2
import numpy as np
import pytest

from fusepipe.core.counts import CountSettings, counts_warning, fold_of, has_swapped_bytes, measure_levels
from fusepipe.pipeline.sources.files.flir_files import flir_data, read_fff

FULL = (0, 65535)
OPTIONS = CountSettings("--range {low} {high}", "--byte-order {order}")


def disc():
    grey = np.full((240, 320), 60, np.uint8)
    return cv2.circle(grey, (220, 150), 40, 230, -1)


def scene(low, high, noise=15.0):
    """Smooth counts with sensor noise."""
    y, x = np.mgrid[:240, :320]
    wave = np.sin(x / 45) / 4 + np.cos(y / 35) / 4 + 0.5
    counts = low + (high - low) * wave + np.random.default_rng(1).normal(0, noise, x.shape)
    return np.clip(counts, 0, 65535).astype(np.uint16)


def dead(pixels):
    pixels = pixels.copy()
    pixels[5, 5], pixels[7, 9] = 0, 65535
    return pixels


def warning(pixels, count_range=FULL, settings=OPTIONS):
    return counts_warning("infrared", measure_levels(pixels), count_range, settings)


def test_a_nearly_flat_image_is_reported_with_a_range_that_fixes_it():
    counts = np.array([[21000] * 50 + [21400] * 50], np.uint16)
    assert warning(counts, FULL, CountSettings()) == (
        "infrared: counts 21000..21400 use 0.6% of the range 0..65535; set range: [20900, 21500]"
    )
    assert warning(counts).endswith("set --range 20900 21500")
    assert warning(counts, (20900, 21500)) is None


@pytest.mark.parametrize(
    "pixels",
    [scene(20000, 30200), scene(0, 4080), scene(7000, 9000), scene(2000, 16000), disc().astype(np.uint16) * 16],
    ids=["fog", "12 bits", "thermal", "14 bits", "12-bit disc"],
)
@pytest.mark.parametrize("spoil", [lambda p: p, dead], ids=["clean", "dead pixels"])
def test_little_contrast_is_reported_whatever_single_pixels_say(pixels, spoil):
    text = warning(spoil(pixels))
    assert text is not None and "use " in text and "--range" in text
    low, high = (int(word) for word in text.split()[-2:])
    assert warning(spoil(pixels), (low, high)) is None


def dead_columns(pixels):
    pixels = pixels.copy()
    pixels[:, :8], pixels[:, -8:] = 0, 65535
    pixels[::20] = 0
    return pixels


@pytest.mark.parametrize("pixels", [scene(20000, 30200), scene(7000, 9000)], ids=["fog", "thermal"])
def test_dead_rows_and_columns_do_not_hide_little_contrast(pixels):
    text = warning(dead_columns(pixels))
    assert text is not None and text == warning(pixels[:, 8:-8][np.arange(240) % 20 != 0])
    low, high = (int(word) for word in text.split()[-2:])
    assert warning(dead_columns(pixels), (low, high)) is None


@pytest.mark.parametrize("name", ["disc", "thermal", "centikelvin without noise"])
def test_dead_rows_and_columns_do_not_hide_swapped_bytes(name):
    assert "swapped" in (warning(dead_columns(SMOOTH[name]).byteswap()) or "")
    assert "swapped" not in (warning(dead_columns(SMOOTH[name])) or "")


@pytest.mark.parametrize("value", [0, 7000, 65535])
def test_flat_images_are_not_reported(value):
    pixels = np.full((240, 320), value, np.uint16)
    assert warning(pixels) is None and warning(dead(pixels)) is None and warning(dead_columns(pixels)) is None


@pytest.mark.parametrize("pixels", [scene(0, 65535), scene(10000, 50000), scene(3000, 30000)])
def test_an_image_with_contrast_is_not_reported(pixels):
    assert warning(pixels) is None and warning(dead(pixels)) is None


SMOOTH = {
    "disc": (29315 + (disc().astype(float) - 60) / 170 * 1500).astype(np.uint16),
    "thermal": scene(28000, 31000),
    "few counts": scene(29300, 29400, 3),
    "centikelvin without noise": scene(29000, 32000, 0),
    "14 bits": scene(2000, 9000),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("spoil", [lambda p: p, dead], ids=["clean", "dead pixels"])
def test_swapped_bytes_are_recognised(name, spoil):
    pixels = spoil(SMOOTH[name])
    assert has_swapped_bytes(pixels.byteswap())
    assert not has_swapped_bytes(pixels)
    assert warning(pixels.byteswap()) == (
        "infrared: the bytes of the 16-bit counts seem to be swapped; set --byte-order little"
    )


@pytest.mark.parametrize("factor", [1, 16, 64, 256, 257])
@pytest.mark.parametrize("colour", [False, True])
def test_8_bit_images_in_16_bits_are_not_taken_for_swapped(factor, colour):
    for grey in (disc(), (scene(0, 65535) >> 8).astype(np.uint8), np.tile(np.arange(256, dtype=np.uint8), (64, 1))):
        pixels = grey.astype(np.uint16) * factor
        assert not has_swapped_bytes(cv2.merge([pixels] * 3) if colour else pixels)


WIDE = {
    "whole range": scene(200, 64000),
    "14 bits": scene(100, 16200),
    "dark with a bright half": np.where(np.arange(320) < 200, scene(3000, 9000), scene(40000, 56000)),
    "edges": scene(500, 1500)
    + np.kron(np.indices((6, 8)).sum(0) % 2 * 50000, np.ones((40, 40), int)).astype(np.uint16),
}


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("spoil", [lambda p: p, dead, dead_columns], ids=["clean", "dead pixels", "dead columns"])
def test_swapped_bytes_are_recognised_in_counts_of_any_range(name, spoil):
    pixels = spoil(WIDE[name])
    assert measure_levels(pixels.byteswap()).swapped
    assert not measure_levels(pixels).swapped and not measure_levels(pixels).wraps_at


@pytest.mark.parametrize("peak", [3, 65536])
def test_noise_has_no_byte_order_and_no_fold(peak):
    levels = measure_levels(np.random.default_rng(0).integers(0, peak, (240, 320), dtype=np.uint16))
    assert not levels.swapped and not levels.wraps_at


def spot(background, peak, radius=14.0, size=(240, 320)):
    """A blurred hot spot in counts that are not limited."""
    y, x = np.mgrid[: size[0], : size[1]]
    heat = np.exp(-((x - 150) ** 2 + (y - 100) ** 2) / (2 * radius**2))
    return background + (peak - background) * heat + np.random.default_rng(2).normal(0, 4, size)


@pytest.mark.parametrize("fold", [1 << 14, 1 << 16])
@pytest.mark.parametrize(
    "counts",
    [lambda fold: spot(0.2 * fold, 1.3 * fold), lambda fold: scene(0, 4000).astype(float) + fold - 2000],
    ids=["a hot spot", "half of the scene"],
)
@pytest.mark.parametrize("spoil", [lambda p: p, dead, dead_columns], ids=["clean", "dead pixels", "dead columns"])
def test_counts_that_wrap_around_are_recognised(fold, counts, spoil):
    unlimited = counts(fold)
    folded = spoil((unlimited.astype(np.int64) % fold).astype(np.uint16))
    assert fold_of(folded) == fold
    text = warning(folded)
    assert text is not None and f"wrap around at {fold}" in text and "low gain" in text
    clipped = spoil(np.clip(unlimited, 0, fold - 1).astype(np.uint16))  # saturated instead
    assert fold_of(clipped) == 0 and "wrap" not in (warning(clipped) or "")


@pytest.mark.parametrize("fold", [1 << 14, 1 << 16])
def test_a_hot_object_of_nearly_the_highest_count_is_no_fold(fold):
    hot = spot(0.01 * fold, 0.99 * fold)
    assert fold_of(hot.astype(np.uint16)) == 0
    sharp = np.where(disc() > 100, 0.97 * fold, 0.05 * fold).astype(np.uint16)
    assert fold_of(sharp) == 0


@pytest.mark.parametrize("folder", ["thermal", "calibration_boards/thermal16"])
def test_real_images_are_not_swapped_and_do_not_wrap_and_their_swapped_copies_are_recognised(data_dir, folder):
    counts = [read_counts(path) for path in sorted((data_dir / folder).iterdir())]
    images = [pixels for pixels in counts if pixels is not None]
    assert len(images) >= 3
    for pixels in images:
        levels = measure_levels(pixels)
        assert not levels.swapped and not levels.wraps_at
        assert measure_levels(pixels.byteswap()).swapped


def read_counts(path):
    """HxW uint16 of a file, or ``None`` of one that has none."""
    if path.suffix == ".jpg" and (fff := flir_data(path.read_bytes())):
        return read_fff(fff).counts
    if path.suffix == ".raw":
        return np.fromfile(path, np.uint16)[-256 * 192 :].reshape(192, 256)
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.suffix in (".png", ".tiff") else None
