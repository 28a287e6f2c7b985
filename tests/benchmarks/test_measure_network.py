"""What ``benchmarks/measure_network`` prints and writes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the split is in the training: pip install 'fusepipe[train]'")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "measure_network"


def measured(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=110)


def scene(seed: int) -> np.ndarray:
    """80x64 uint8: smooth texture."""
    noise = np.random.default_rng(seed).uniform(0, 255, (80, 64)).astype(np.float32)
    return np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX), np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number in range(2):
        for band, seed in (("ir", number), ("vis", 10 + number)):
            path = folder / "tno" / "pairs" / band / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), scene(seed))
    return folder


def tables(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line]


def test_a_network_is_ranked_among_those_beside_it_and_these_can_come_from_an_earlier_run(
    data: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first.json", tmp_path / "again.json"
    done = measured("stream", "--data", data, "--only", "tno", "--json", first)
    assert done.returncode == 0, done.stderr
    head, _, *rows = tables(done.stdout)
    assert head[:2] == ["TNO, 42 pairs", "mean rank"]
    names = [row[0] for row in rows]
    assert {"stream", "stream-0.1", "stream-hq-0.1", "mfe-0.1", "mean", "max", "U2Fusion"} <= set(names)
    ranks = [float(row[1]) for row in rows]
    assert ranks == sorted(ranks) and abs(sum(ranks) - len(ranks) * (len(ranks) + 1) / 2) < 0.1
    found = json.loads(first.read_text())["tno"]["means"]
    # mutual information of the mean of two unrelated images: no rule of the table could make that up
    assert found["max"]["MI"] > found["mean"]["MI"] > 0
    repeated = measured("stream", "--data", data, "--only", "tno", "--beside", first, "--json", again)
    assert repeated.returncode == 0, repeated.stderr
    assert repeated.stdout == done.stdout
    assert json.loads(again.read_text())["tno"]["means"] == found


def test_an_onnx_file_in_another_precision_is_measured(data: Path, tmp_path: Path) -> None:
    weights = SCRIPT.parents[1] / "engines" / "weights"
    done = measured(weights / "stream.int8.onnx", "--precision", "int8", "--data", data, "--only", "tno")
    assert done.returncode == 0, done.stderr
    assert any(row[0].endswith("stream.int8.onnx") for row in tables(done.stdout))


def detector_of_one_person(path: Path) -> Path:
    """A detector for 64x64 images that sees the same person in every image, 20x30 around (30, 20) of 64x80."""
    onnx = pytest.importorskip("onnx", reason="the detector is made with onnx: pip install onnx")
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 84, 85])
    person = np.zeros((1, 84, 85), np.float32)
    person[0, 0, :6] = (3.0, 2.0, math.log(2), math.log(3), 1.0, 0.9)  # in cells of 8, at .8 of the image's size
    constants = [numpy_helper.from_array(person, "person"), numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "person"], ["output"]),
    ]
    graph = helper.make_graph(nodes, "one person", [image], [output], constants)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def test_what_a_detector_finds_in_labelled_pairs_and_in_a_video(tmp_path: Path) -> None:
    person = f"0 {30 / 64} {20 / 80} {20 / 64} {30 / 80}"
    for name, labels in (("m3fd", person), ("msrs_more", f"{person}\n2 .8 .8 .1 .1")):
        for band, seed in (("ir", 1), ("vis", 2)):
            (tmp_path / name / band).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / name / band / "1.png"), scene(seed))
        (tmp_path / name / "labels").mkdir()
        (tmp_path / name / "labels" / "1.txt").write_text(labels)
    (tmp_path / "video").mkdir()
    for band in ("ir", "vis"):
        file = tmp_path / "video" / f"smoke1_{band}.mp4"
        clip = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 80))
        clip.write(cv2.cvtColor(scene(3), cv2.COLOR_GRAY2BGR))
        clip.release()
    detector = detector_of_one_person(tmp_path / "detector.onnx")
    done = measured("stream", "--data", tmp_path, "--detector", detector, "--only", "detection")
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for row in tables(done.stdout)[2:]}
    assert {"infrared", "visible", "mean", "mfe-0.1", "stream"} <= set(rows)
    # the person of both labelled pairs and of the video, and not the car
    assert rows["stream"] == ["1.000", "0.000", "1 of 1", "1 of 1"]


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    done = measured("stream", "--data", tmp_path, "--only", "tno")
    assert done.returncode == 1 and str(tmp_path) in done.stderr and done.stderr.count("\n") == 1


def test_an_unknown_network_and_an_unknown_part_are_reported_before_anything_is_measured(tmp_path: Path) -> None:
    done = measured("strem", "--data", tmp_path)
    assert done.returncode == 1 and "'strem'" in done.stderr and "stream" in done.stderr and not done.stdout
    done = measured("stream", "--data", tmp_path, "--only", "rank")
    assert done.returncode == 2 and "--only rank: the parts are ranks, tno" in done.stderr
    done = measured(tmp_path / "none.onnx", "--data", tmp_path)
    assert done.returncode == 1 and "none.onnx: cannot be read" in done.stderr
