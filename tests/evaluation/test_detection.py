"""Detections: decoding YOLOX's output, suppression, AP50, recall and label files, each computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe import engines
from fusepipe.core.errors import EngineError, SourceError, UsageError
from fusepipe.evaluation.detection.image_set import SetDetection, score_rows, with_visible_chroma
from fusepipe.evaluation.detection.labels import class_map, parse_maps, read_labels
from fusepipe.evaluation.detection.score import (
    ImageDetections,
    average_precision,
    detection_score,
    person_recall,
    sure_persons,
)
from fusepipe.evaluation.detection.yolox import Box, YoloxDetector, class_names, letterboxed, overlaps, suppress

NAMES = ("person", "bicycle", "car")


def box(left: float, top: float, right: float, bottom: float, score: float = 1.0, name: str = "person") -> Box:
    return Box(name, (left, top, right, bottom), score)


# -- the network's format


def raw_output(size: tuple[int, int], entries: dict[int, tuple[float, ...]]) -> np.ndarray:
    """1 x anchors x 8 of three classes: the given anchors (x, y, log w, log h, objectness, classes), the rest zero."""
    anchors = sum((size[0] // s) * (size[1] // s) for s in (8, 16, 32))
    values = np.zeros((1, anchors, 5 + len(NAMES)), np.float32)
    for index, entry in entries.items():
        values[0, index] = entry
    return values


def test_an_anchor_becomes_a_box_in_the_images_pixels() -> None:
    # an input of 64x32: 8x4 anchors of stride 8, then 4x2 of 16, 2x1 of 32. Anchor 10 is column 2, row 1 of stride 8;
    # anchor 32 + 5 is column 1, row 1 of stride 16.
    entries = {
        10: (0.5, 0.25, math.log(2), math.log(1), 0.8, 0.5, 0.0, 0.0),
        37: (0.0, 0.0, math.log(1), math.log(0.5), 0.5, 0.0, 0.0, 1.0),
    }
    detector = YoloxDetector(lambda x: raw_output((32, 64), entries), (32, 64), (1, 42, 8), NAMES)
    # an image twice as large as the input
    person, car = detector.detect(np.zeros((64, 128, 3), np.uint8), ("person", "car"))
    # centre ((2 + .5) * 8, (1 + .25) * 8) = (20, 10), size (16, 8): 12..28 and 6..14 of the input
    assert person.name == "person" and person.score == pytest.approx(0.4)
    assert person.corners == pytest.approx((24, 12, 56, 28), abs=1e-3)
    # centre (16, 16), size (16, 8)
    assert car.name == "car" and car.corners == pytest.approx((16, 24, 48, 40), abs=1e-3)
    assert [b.name for b in detector.detect(np.zeros((64, 128, 3), np.uint8), ("car",))] == ["car"]


def test_images_are_fitted_at_the_top_left() -> None:
    fed, scale = letterboxed(np.full((50, 100, 3), (10, 20, 30), np.uint8), (64, 64))
    assert scale == 0.64 and fed.shape == (1, 3, 64, 64) and fed.dtype == np.float32
    assert fed[0, :, 0, 0].tolist() == [10, 20, 30] and fed[0, :, 31, 63].tolist() == [10, 20, 30]
    assert (fed[0, :, 32:] == 114).all()


@pytest.mark.parametrize("image", [(1, 1), (1, 3000), (480, 640)])
def test_images_of_any_size_are_fed(image: tuple[int, int]) -> None:
    assert letterboxed(np.zeros((*image, 3), np.uint8), (32, 64))[0].shape == (1, 3, 32, 64)


@pytest.mark.parametrize(("size", "output"), [((32, 64), (1, 41, 8)), ((32, 60), (1, 42, 8)), ((32, 64), (1, 42, 9))])
def test_other_networks_are_refused(size: tuple[int, int], output: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="not a YOLOX detector"):
        YoloxDetector(lambda x: x, size, output, NAMES)


def test_names_are_cocos_or_those_next_to_the_file(tmp_path: Path) -> None:
    names = class_names(tmp_path / "d.onnx", 80)
    assert (names[0], names[2], names[79]) == ("person", "car", "toothbrush")
    with pytest.raises(UsageError, match=r"has 2 classes, coco.names has 80 names: write them to .*d.names"):
        class_names(tmp_path / "d.onnx", 2)
    (tmp_path / "d.names").write_text("hot person\nhot car\n")
    assert class_names(tmp_path / "d.onnx", 2) == ("hot person", "hot car")


def test_overlap_by_hand() -> None:
    one = np.array([0.0, 0, 10, 10])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]])
    assert overlaps(one, others) == pytest.approx([1, 50 / 150, 0, 4 / 100])


def test_of_overlapping_boxes_the_best_stays() -> None:
    corners = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 4]])
    assert suppress(corners, np.array([0.5, 0.9, 0.3, 0.8])) == [1, 3, 2]


# -- scores


def test_average_precision_by_hand() -> None:
    labels = [[box(0, 0, 10, 10), box(20, 0, 30, 10)], [box(0, 0, 10, 10)]]
    found = [
        [box(0, 0, 10, 10, 0.9), box(0, 1, 10, 11, 0.7), box(50, 50, 60, 60, 0.6)],  # right, taken already, wrong
        [box(0, 0, 10, 9, 0.8)],  # right
    ]
    # in order: right, right, wrong, wrong: precision 1 up to a recall of 2/3, nothing beyond
    assert average_precision(list(zip(found, labels, strict=True)), "person") == pytest.approx(2 / 3)
    found[0].append(box(20, 0, 30, 10, 0.1))  # the fifth is right: 3 of 5 for the last third
    assert average_precision(list(zip(found, labels, strict=True)), "person") == pytest.approx(2 / 3 + 0.6 / 3)
    # a precision that rises later counts at the lower recall too: wrong, right, right of three
    late = [([box(90, 0, 99, 9, 0.9), box(0, 0, 10, 10, 0.8), box(20, 0, 30, 10, 0.7)], labels[0])]
    assert average_precision(late, "person") == pytest.approx(2 / 3)


def test_only_boxes_of_the_class_and_half_overlap_count() -> None:
    label = [box(0, 0, 10, 10, name="car")]
    assert average_precision([([box(0, 0, 10, 10, 0.9)], label)], "car") == 0.0
    assert average_precision([([box(0, 0, 10, 5, 0.9, "car")], label)], "car") == 1.0  # IoU is exactly one half
    assert average_precision([([box(0, 0, 10, 4.9, 0.9, "car")], label)], "car") == 0.0
    assert math.isnan(average_precision([([], label)], "person"))


def test_recall_of_persons_by_hand() -> None:
    infrared = [box(0, 0, 10, 10, 0.9), box(20, 0, 30, 10, 0.4), box(40, 0, 50, 10, 0.6), box(0, 0, 9, 9, 0.9, "car")]
    visible = [box(0, 0, 10, 11, 0.8), box(60, 0, 70, 10, 0.7)]
    sure = sure_persons(infrared, visible)
    assert [len(sure[view]) for view in ("infrared", "visible", "either")] == [2, 2, 3]
    found = [box(0, 0, 10, 10, 0.31), box(40, 0, 50, 10, 0.29), box(60, 0, 70, 10, 0.9)]
    score = detection_score([ImageDetections(found, None, sure)])
    assert score.recall == {"infrared": (1, 2), "visible": (2, 2), "either": (2, 3)} and score.ap50 == {}
    assert person_recall([]) == (0, 0)


def test_labelled_images_count_for_precision_the_others_for_recall() -> None:
    person = [box(0, 0, 10, 10)]
    images = [ImageDetections(person, person, {"infrared": person}), ImageDetections([], None, {"infrared": person})]
    score = detection_score(images)
    assert score.ap50 == {"person": 1.0} and score.recall == {"infrared": (0, 1)}
    assert score_rows([{"a": images, "b": images}, {"a": images}])["a"].recall == {"infrared": (0, 2)}


# -- labels


def test_labels_are_shares_of_the_image(tmp_path: Path) -> None:
    file = tmp_path / "0.txt"
    file.write_text("0 0.5 0.5 0.25 0.5\n\n3 0.1 0.1 0.1 0.1\n")
    (found,) = read_labels(file, {0: "person"}, (100, 200))
    assert found.name == "person" and found.corners == pytest.approx((75, 25, 125, 75))


@pytest.mark.parametrize("line", ["0 0.5 0.5", "person 0 0 1 1", "0 10 20 30 40", "0.5 0 0 1 1"])
def test_an_invalid_label_line_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "0.txt"
    file.write_text(f"0 0.5 0.5 0.25 0.5\n{line}\n")
    with pytest.raises(SourceError, match=r"0.txt: line 2: .* is not a label"):
        read_labels(file, {0: "person"}, (10, 10))


def test_what_the_numbers_mean_is_given_or_in_the_folder(tmp_path: Path) -> None:
    maps = parse_maps(["0=person,2=car", "m3fd:0=person,1=car"], NAMES)
    assert maps == {"": {0: "person", 2: "car"}, "m3fd": {0: "person", 1: "car"}}
    assert class_map(tmp_path, "m3fd", maps, NAMES) == {0: "person", 1: "car"}
    assert class_map(tmp_path, "msrs", maps, NAMES) == {0: "person", 2: "car"}
    with pytest.raises(UsageError, match=r"give --labels-map msrs:0=person,2=car, or write classes.txt"):
        class_map(tmp_path, "msrs", {}, NAMES)
    (tmp_path / "classes.txt").write_text("car\nlamp\nperson\n")
    assert class_map(tmp_path, "msrs", {}, NAMES) == {0: "car", 2: "person"}
    for text, message in (("person", "use 0=person"), ("0=persn", "did you mean 'person'")):
        with pytest.raises(UsageError, match=message):
            parse_maps([text], NAMES)


def test_a_grey_fused_image_keeps_its_luma_and_gets_the_visible_chroma() -> None:
    bgr = np.zeros((4, 4, 3), np.uint8)
    bgr[..., 2] = 120
    luma = np.full((4, 4), 90, np.uint8)
    found = cv2.cvtColor(with_visible_chroma(luma, bgr), cv2.COLOR_BGR2YCrCb)
    assert abs(int(found[0, 0, 0]) - 90) <= 1 and found[0, 0, 1] > 150
    grey = np.full((4, 4, 3), 70, np.uint8)
    assert np.abs(with_visible_chroma(luma, grey).astype(int) - 90).max() <= 1


# -- a real detector


@pytest.mark.parametrize("content", [b"junk\n", b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"], ids=["text", "empty", "image"])
def test_a_detector_that_is_no_onnx_file_is_one_line(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenVINO tries other formats when it guesses, and those print errors of their own."""
    from fusepipe.engines.backends.openvino.onnx_function import OnnxFunction

    (tmp_path / "d.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=r"d\.onnx: is not an ONNX file"):
        OnnxFunction(tmp_path / "d.onnx", 640)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_is_no_detector_is_one_line() -> None:
    from fusepipe.engines.backends.openvino.onnx_function import OnnxFunction

    with pytest.raises(EngineError, match=r"stream\.onnx: has 2 inputs and 1 output; a detector has one of each"):
        OnnxFunction(Path(engines.__file__).with_name("weights") / "stream.onnx", 640)


@pytest.mark.data
def test_persons_behind_smoke_as_an_independent_evaluation_counted_them(data_dir: Path, tmp_path: Path) -> None:
    """Every 10th frame of a video with 80 sure persons: 28 are found in visible, 69 in the mean, 52 in the maximum."""
    from fusepipe.engines.backends.openvino.onnx_function import OnnxFunction

    model = data_dir / "detector" / "yolox_nano.onnx"
    if not model.is_file():
        pytest.skip(f"no detector at {model}")
    run = OnnxFunction(model, 640)
    detector = YoloxDetector(run, run.input_shape[2:], run.output_shape, class_names(model, 80))
    clips = [cv2.VideoCapture(str(data_dir / "video" / f"smoke1_{band}.mp4")) for band in ("ir", "vis")]
    files = {}
    for index in range(407):
        frames = [clip.read()[1] for clip in clips]
        if index % 10 == 0:
            paths = tuple(tmp_path / band / f"{index}.png" for band in ("ir", "vis"))
            for path, frame in zip(paths, frames, strict=True):
                path.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(path), frame)
            files[str(index)] = paths
    detection = SetDetection(
        detector, "smoke1", files, {}, lambda name: cv2.imread(str(files[name][0]), cv2.IMREAD_GRAYSCALE)
    )
    detection.read_sources()
    for name, (ir, vis) in files.items():
        infrared, visible = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (ir, vis))
        detection.add("mean", name, ((infrared.astype(int) + visible + 1) // 2).astype(np.uint8))
        detection.add("max", name, np.maximum(infrared, visible))
    scores = score_rows([detection.images()])
    assert scores["infrared"].recall["infrared"] == (80, 80)
    for row, expected in (("visible", 28), ("mean", 69), ("max", 52)):
        found, total = scores[row].recall["infrared"]
        assert total == 80 and abs(found - expected) <= 2, (row, found)
