"""Training on Ray: two workers give what one process gives, and go on from the checkpoint of one that died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.made_images import write
from helpers.training import require_training

require_training()
pytest.importorskip("ray.train.torch", reason="Ray Train is not installed: pip install 'fusepipe[ray-train]'")

from safetensors.torch import load_file

from fusepipe.core.errors import EngineError
from fusepipe.train.ray_workers import RayWorkers, require_room

CONFIG = "stage1: {steps: 4, batch: 4, crop_px: 24, validate_every: 2, validation_images: 1, workers: 0, threads: 1}\n"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for n in range(5):
        write(tmp_path / "photos" / f"{n}.png", seed=n)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


def train(folder: Path, out: str, *words: str) -> subprocess.CompletedProcess[str]:
    """``fusepipe train stage1`` in a process of its own, with relative paths."""
    command = [sys.executable, "-m", "fusepipe", "train", "stage1", "--config", "tiny.yaml", "--data", "photos"]
    command += ["--out", out, "--device", "cpu", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_train_the_weights_of_one_process(photographs: Path) -> None:
    for out, words in (("one", ()), ("two", ("--ray-workers", "2"))):
        done = train(photographs, out, *words)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(photographs / out / "mfe.safetensors") for out in ("one", "two"))
    # the same means, summed in another order
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    reports = [json.loads((photographs / out / "report.json").read_text()) for out in ("one", "two")]
    assert reports[0]["step"] == reports[1]["step"] == 4


DIES = """
import os, sys, time
from pathlib import Path
from fusepipe.train.ray_workers import RayWorkers, train_on_ray
out = Path(sys.argv[1])
def train(resume):
    with (out / "calls").open("a") as calls:
        calls.write(f"{resume}\\n")
    if not resume:
        (out / "checkpoint.safetensors").touch()
        time.sleep(10)  # Ray takes one that dies while it starts for a defect of the cluster
        os._exit(9)
train_on_ray(train, RayWorkers(1), out, resume=False)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_dies_is_replaced_and_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "calls").read_text().split() == ["False", "True"]


def test_the_address_of_a_cluster_needs_the_number_of_workers(tmp_path: Path) -> None:
    done = train(tmp_path, "out", "--ray", "auto")
    assert done.returncode == 2 and "--ray needs --ray-workers" in done.stderr


def test_more_workers_than_a_cluster_has_room_for_are_refused() -> None:
    """Ray would wait for them without an end."""
    require_room(RayWorkers(2), {"CPU": 2.0})
    with pytest.raises(EngineError, match="--ray-workers 3: the Ray cluster has 2 CPUs"):
        require_room(RayWorkers(3), {"CPU": 2.0})
    with pytest.raises(EngineError, match="has 0 GPUs"):
        require_room(RayWorkers(1, gpus=True), {"CPU": 2.0})
