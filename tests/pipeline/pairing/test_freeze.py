"""Detection of frozen images."""

from dataclasses import replace

import numpy as np

from fusepipe.core.frames import Band, Original, Stamp
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


def encoded(image, index, *, key):
    """A frame that shows the named image; ``key``: it is a key frame."""
    pixels = np.random.default_rng([ord(c) for c in image]).integers(0, 255, (60, 80), dtype=np.uint8)
    at_ns = index * 40 * MS
    return replace(frame(Band.INFRARED, index, at_ns, pixels=pixels, arrival_ns=at_ns), stamp=Stamp(key_frame=key))


def test_a_frozen_image_that_is_encoded_again_with_each_key_frame_is_one_freeze():
    """A key frame of a frozen image and the frames that refine it are the same in each group of pictures."""
    detector = FreezeDetector()
    for index in range(100):
        place = index % 25
        detector.push(encoded("ipq"[min(place, 2)], index, key=place == 0))
    assert detector.freezes == 1 and detector.frozen and detector.original == Original(2, 80 * MS)
    assert detector.proven_for(3_800 * MS) and not detector.proven_for(4_000 * MS)


def test_a_recording_in_a_loop_is_not_frozen():
    detector = FreezeDetector()
    for index in range(200):
        assert not detector.push(encoded("abcdefgh"[index % 8], index, key=index % 8 == 0))


def test_blocks_that_an_encoder_skips_are_no_proof_of_a_freeze_until_it_lasts_long():
    """A motionless scene: each key frame has other noise, which no frame up to the next one changes."""
    detector = FreezeDetector()
    for index in range(500):
        detector.push(encoded(f"noise {index // 50}", index, key=index % 50 == 0))
        assert not detector.proven_for(0), index
    for index in range(500, 800):
        detector.push(encoded("still", index, key=index == 500))
    assert detector.proven_for(10_000 * MS)


def test_an_encoder_that_varies_a_frozen_image_between_equal_key_frames():
    """As x264 does at a constant bit rate; where the image moves again, it is not frozen."""
    rng, still = np.random.default_rng(4), np.random.default_rng(5).integers(20, 200, (60, 80), dtype=np.uint8)
    detector, seen = FreezeDetector(), []
    for index in range(60):
        key = index % 10 == 0
        pixels = still if key else (still + rng.integers(0, 6, still.shape)).astype(np.uint8)
        if index >= 45:
            pixels = np.roll(pixels, index, axis=1)
        at_ns = index * 40 * MS
        shot = frame(Band.INFRARED, index, at_ns, pixels=pixels, arrival_ns=at_ns)
        seen.append(detector.push(replace(shot, stamp=Stamp(key_frame=key))))
    assert seen == [False] * 10 + [True] * 35 + [False] * 15
    assert detector.longest_ns == 44 * 40 * MS


def test_doubled_frames_of_a_noisy_still_scene_are_not_frozen():
    """A camera of 12.5 images a second that sends each one twice, as MJPEG."""
    rng, still = np.random.default_rng(4), np.random.default_rng(5).integers(20, 200, (60, 80), dtype=np.uint8)
    detector = FreezeDetector()
    for index in range(0, 100, 2):
        pixels = (still + rng.integers(0, 3, still.shape)).astype(np.uint8)
        for number in (index, index + 1):
            at_ns = number * 40 * MS
            assert not detector.push(frame(Band.INFRARED, number, at_ns, pixels=pixels, arrival_ns=at_ns))
