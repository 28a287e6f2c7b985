"""Detection of frozen images."""

import numpy as np

from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.freeze import FreezeDetector
from fusepipe.pipeline.testing import MS, frame


def shots(images, step_ms=40):
    rng = np.random.default_rng(0)
    kinds = {}
    for index, kind in enumerate(images):
        pixels = kinds.setdefault(kind, rng.integers(0, 255, (60, 80), dtype=np.uint8))
        yield frame(Band.INFRARED, index, index * step_ms * MS, pixels=pixels, arrival_ns=index * step_ms * MS)


def test_a_frozen_image_is_detected_and_a_repeat_or_two_are_not():
    detector = FreezeDetector()
    seen = "".join("F" if detector.push(f) else "." for f in shots("abbbc" + "d" * 10 + "ef"))
    assert seen == "." * 9 + "F" * 6 + ".."
    assert (detector.freezes, detector.longest_ns) == (1, 360 * MS)


def test_images_that_differ_in_one_grey_level_are_not_a_freeze():
    detector, pixels = FreezeDetector(), np.full((60, 80), 90, np.uint8)
    for index in range(20):
        pixels = pixels.copy()
        pixels[30, index] += 1
        shot = frame(Band.INFRARED, index, 0, pixels=pixels, arrival_ns=index * 40 * MS)
        assert not detector.push(shot)
