"""The stages of ``mfe`` in the training loop: resuming, stopping, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.made_images import write
from helpers.training import assert_equal_checkpoints, require_training, run_loop

from fusepipe.core.errors import EngineError, OutputExistsError, UsageError

torch = require_training()

from fusepipe.train.configs.fields import TemporalConsistency
from fusepipe.train.configs.mfe import FusionStageConfig, Stage1Config
from fusepipe.train.data.camera_effects import CameraEffects
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import Split
from fusepipe.train.device import choose_precision
from fusepipe.train.distributed import Processes
from fusepipe.train.loop import Loop
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.session.mfe import mfe_settings
from fusepipe.train.tasks.autoencoder import AutoEncoderTask
from fusepipe.train.tasks.base import Loss, StepRandom
from fusepipe.train.tasks.fusion import FusionTask

CPU = torch.device("cpu")
ALONE = Processes(CPU)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "photos" / f"{n}.png", seed=n) for n in range(5)]


def images() -> DecodedImages:
    return DecodedImages(800)


def tiny(**changes: Any) -> Stage1Config:
    values = {"steps": 6, "batch": 2, "crop_px": 32, "validate_every": 2, "workers": 0, "validation_images": 1}
    return Stage1Config(**{**values, **changes})


def make_task(config: Stage1Config, files: list[Path]) -> AutoEncoderTask:
    torch.manual_seed(config.seed)
    return AutoEncoderTask(config, MfeNet(attention=False), Split(files[1:], files[:1]), images())


def make_loop(config: Stage1Config, task: AutoEncoderTask, out: Path, *, resume: bool = False) -> Loop:
    settings = mfe_settings(config, critic_learning_rate=config.critic_learning_rate)
    return Loop(task, settings, out, ALONE, identity=config.fixed(), resume=resume)


def loop(files: list[Path], out: Path, *, resume: bool = False, **changes: Any) -> Loop:
    config = tiny(**changes)
    return make_loop(config, make_task(config, files), out, resume=resume)


class TestTemporalConsistency:
    class Restless(torch.nn.Module):
        """Changes more than its sources, and remembers what it saw."""

        seen: tuple[torch.Tensor, torch.Tensor]

        def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
            self.seen = infrared, visible
            return torch.sin(60 * infrared)

    def test_every_fourth_pair_is_seen_twice(self, files: list[Path]) -> None:
        split = Split([(files[0], files[1])], [(files[2], files[3])])
        found: dict[str, Loss] = {}

        random = StepRandom(seed=0, step=3, batch=5, rank=0, world=1, device=CPU)
        for name, weights in (("without", {}), ("with", {"flicker": 2.0, "luminance": 3.0})):
            config = FusionStageConfig(
                batch=5, crop_px=32, workers=0, temporal_consistency=TemporalConsistency(**weights)
            )
            task = FusionTask(config, MfeNet(), split, images(), attention_only=False)
            with task.batches(0, 1, rank=0, world=1) as fetched:
                batch = next(fetched)
            network = self.Restless()
            made = task.generate(network, batch, random)
            assert len(made) == 5 + 2 * bool(weights)
            for band, seen in zip(batch[:2], network.seen, strict=True):
                assert torch.equal(seen[:5], band)
                for again, first in zip(seen[5:], (0, 4), strict=False):
                    assert 0 < float((again - band[first]).abs().mean()) < 0.05
            if weights:
                noise = network.seen[0][5:] - batch[0][::4]
                assert not torch.equal(noise[0], noise[1]), "each has its own"
            found[name] = task.generator_loss(made, None, batch, random)
        terms = {name: float(value) for name, value in found["with"].terms.items()}
        assert terms["flicker"] > 0 and not {"flicker", "luminance"} & found["without"].terms.keys()
        more = 2 * terms["flicker"] + 3 * terms["luminance"]
        assert float(found["with"].total) == pytest.approx(float(found["without"].total) + more, rel=1e-5)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_resumed_run_equals_an_uninterrupted_one(self, precision: str, files: list[Path], tmp_path: Path) -> None:
        values = {"steps": 4, "batch": 5, "crop_px": 32, "validate_every": 4, "workers": 0, "validation_images": 1}
        weights = TemporalConsistency(flicker=1.0, luminance=1.0)
        config = FusionStageConfig(**values, precision=precision, temporal_consistency=weights)
        split = Split([(files[0], files[1])], [(files[2], files[3])])

        def of(out: str, *, resume: bool = False) -> Loop:
            torch.manual_seed(1)
            task = FusionTask(config, MfeNet(), split, images(), attention_only=True)
            settings = mfe_settings(config)
            return Loop(task, settings, tmp_path / out, ALONE, identity=config.fixed(), resume=resume)

        whole = run_loop(of("whole"))
        assert whole == run_loop(of("parts"), stop_after=2) + run_loop(of("parts", resume=True))


class TestLoop:
    @pytest.mark.parametrize("adversarial", [0.0, 0.1])
    def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
        self, adversarial: float, files: list[Path], tmp_path: Path
    ) -> None:
        whole = run_loop(loop(files, tmp_path / "whole", adversarial=adversarial))
        parts = run_loop(loop(files, tmp_path / "parts", adversarial=adversarial), stop_after=3)
        parts += run_loop(loop(files, tmp_path / "parts", adversarial=adversarial, resume=True))
        assert whole == parts
        assert_equal_checkpoints(tmp_path / "whole", tmp_path / "parts")

    def test_it_learns(self, files: list[Path], tmp_path: Path) -> None:
        camera = CameraEffects(swap=0, same=0, flat=0, low_light=0, invert=0)
        changes = {"adversarial": 0.0, "skip_dropout": 0.0, "camera": camera}
        losses = run_loop(loop(files, tmp_path, steps=50, validate_every=50, learning_rate=4e-3, **changes))
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])

    def test_both_sides_learn(self, files: list[Path], tmp_path: Path) -> None:
        config = tiny(adversarial=0.1)
        task = make_task(config, files)
        critic = task.critic
        assert critic is not None
        before = {k: v.clone() for k, v in critic.state_dict().items()}
        run_loop(make_loop(config, task, tmp_path))
        assert all(not torch.equal(v, before[k]) for k, v in critic.state_dict().items() if k.endswith("weight"))

    def test_the_attention_alone_is_trained(self, files: list[Path], tmp_path: Path) -> None:
        config = FusionStageConfig(steps=2, batch=2, crop_px=32, validate_every=2, workers=0, validation_images=1)
        network = MfeNet()
        before = {k: v.clone() for k, v in network.state_dict().items()}
        split = Split([(files[0], files[1])], [(files[2], files[3])])
        task = FusionTask(config, network, split, images(), attention_only=True)
        made = Loop(task, mfe_settings(config), tmp_path, ALONE, identity={})
        run_loop(made)
        changed = {k.split(".")[0] for k, v in made.result.state_dict().items() if not torch.equal(v, before[k])}
        assert changed == {"attention"}

    def test_it_stops_early_without_improvement(self, files: list[Path], tmp_path: Path) -> None:
        made = loop(files, tmp_path, steps=50, learning_rate=1e-12, validate_every=1, patience=2, ema_decay=0.0)
        run_loop(made)
        assert made.state.step < 50 and made.state.without_better == 2

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, files: list[Path], tmp_path: Path) -> None:
        run_loop(loop(files, tmp_path), stop_after=1)
        with pytest.raises(OutputExistsError, match="--resume"):
            loop(files, tmp_path)
        with pytest.raises(UsageError, match=r"ssim was 1\.0, is 2\.0"):
            loop(files, tmp_path, resume=True, ssim=2.0)

    def test_a_diverged_run_stops_with_a_reason(self, files: list[Path], tmp_path: Path) -> None:
        task = make_task(tiny(), files)
        with torch.no_grad():
            next(task.generator.parameters()).fill_(float("nan"))
        with pytest.raises(EngineError, match="lower learning_rate"):
            run_loop(make_loop(tiny(), task, tmp_path))

    def test_bf16_trains_and_fp16_needs_a_gpu(self, files: list[Path], tmp_path: Path) -> None:
        assert choose_precision("auto", CPU) == torch.float32
        with pytest.raises(UsageError, match="GPUs only"):
            choose_precision("fp16", CPU)
        losses = run_loop(loop(files, tmp_path, steps=2, precision="bf16", crop_px=16))
        assert all(np.isfinite(losses))

    def test_batches_that_cannot_be_shared(self, files: list[Path], tmp_path: Path) -> None:
        task, settings = make_task(tiny(), files), mfe_settings(tiny(batch=3))
        with pytest.raises(UsageError, match="3 crops"):
            Loop(task, settings, tmp_path, Processes(CPU, 0, 2), identity={})


_TWO = """
import json, sys, threading, time, torch
from contextlib import suppress
from pathlib import Path
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.image_folders import photographs
from fusepipe.train.loop import Loop
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.distributed import process_group
from fusepipe.train.configs.mfe import Stage1Config
from fusepipe.train.session.mfe import mfe_settings
from fusepipe.train.tasks.autoencoder import AutoEncoderTask
torch.set_num_threads(1)
photos, out = Path(sys.argv[1]), Path(sys.argv[2])
config = Stage1Config(steps=4, batch=4, crop_px=24, validate_every=2, workers=0, adversarial=0.1, validation_images=1)
def train(processes):
    torch.manual_seed(processes.rank)  # another start in each process: the first one's is what counts
    task = AutoEncoderTask(config, MfeNet(attention=False), photographs(photos), DecodedImages(800))
    settings, losses = mfe_settings(config, critic_learning_rate=config.critic_learning_rate), []
    Loop(task, settings, out, processes, identity={}).run(threading.Event(), lambda step, loss: losses.append(loss))
    if processes.first:
        (out / "losses.json").write_text(json.dumps(losses))
def gloo_threads():
    names = []
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names.append(task.read_text().strip())
    return [name for name in names if "gloo" in name]
with process_group(torch.device("cpu")) as processes:
    train(processes)
    assert bool(gloo_threads()) == (processes.world > 1)
deadline_s = time.monotonic() + 5
while gloo_threads() and time.monotonic() < deadline_s:  # the system lists a thread a moment longer
    time.sleep(0.01)
assert not gloo_threads(), "they may abort the process when it ends"
"""


@pytest.mark.slow
@pytest.mark.timeout(260)
def test_two_processes_follow_the_loss_curve_of_one(files: list[Path], tmp_path: Path) -> None:
    def curve(count: int) -> list[float]:
        out = tmp_path / f"of-{count}"
        script = tmp_path / "two.py"
        script.write_text(_TWO)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        ran = subprocess.run(
            [*command, str(script), str(files[0].parent), str(out)],
            capture_output=True,
            text=True,
            timeout=110,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return [float(loss) for loss in json.loads((out / "losses.json").read_text())]

    one, two = curve(1), curve(2)
    # the same means, summed in another order
    assert len(one) == 4 and two == pytest.approx(one, rel=1e-4)
