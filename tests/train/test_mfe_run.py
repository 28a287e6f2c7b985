"""Trainings of ``mfe``: the loop (resuming, stopping, several processes), the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'fusepipe[train]'")
pytest.importorskip("safetensors", reason="training needs safetensors: pip install 'fusepipe[train]'")
pytest.importorskip("onnxscript", reason="the export needs onnxscript: pip install 'fusepipe[train]'")
pytest.importorskip("tensorboard", reason="training needs tensorboard: pip install 'fusepipe[train]'")

from helpers.made_images import write  # noqa: E402

from fusepipe.commands.train import command  # noqa: E402
from fusepipe.core.errors import ConfigError, EngineError, OutputExistsError, SourceError, UsageError  # noqa: E402
from fusepipe.train.ablation import Row, table, wins  # noqa: E402
from fusepipe.train.checkpoint import read_tensors  # noqa: E402
from fusepipe.train.config import Steadiness  # noqa: E402
from fusepipe.train.data.camera import Camera  # noqa: E402
from fusepipe.train.data.decoded import DecodedImages  # noqa: E402
from fusepipe.train.data.folders import Split  # noqa: E402
from fusepipe.train.figures import plot, read_curve  # noqa: E402
from fusepipe.train.loop import Loop, choose_precision  # noqa: E402
from fusepipe.train.losses.distillation import distillation_loss  # noqa: E402
from fusepipe.train.mfe_session import train_stage1  # noqa: E402
from fusepipe.train.mfe_weights import save_mfe  # noqa: E402
from fusepipe.train.networks.mfe import MfeNet  # noqa: E402
from fusepipe.train.processes import Processes  # noqa: E402
from fusepipe.train.run_config import FusionConfig, RunConfig, Stage1Config, load_mfe_config  # noqa: E402
from fusepipe.train.snapshots import NETWORKS, OPTIMISERS  # noqa: E402
from fusepipe.train.stages import AutoEncoderStage, FusionStage, Loss  # noqa: E402
from fusepipe.train.teacher import Teacher  # noqa: E402

ALONE = Processes(torch.device("cpu"))
PLAIN = Camera(**dict.fromkeys(Camera.model_fields, 0.0))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks gain nothing from more threads, and lose much where other programs run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "photos" / f"{n}.png", seed=n) for n in range(5)]


def images() -> DecodedImages:
    return DecodedImages(800)


def tiny(**changes: Any) -> Stage1Config:
    values = {"steps": 6, "batch": 2, "crop_px": 32, "validate_every": 2, "workers": 0, "validation_images": 1}
    return Stage1Config(**{**values, **changes})


def loop(files: list[Path], out: Path, *, resume: bool = False, **changes: Any) -> Loop:
    config = tiny(**changes)
    torch.manual_seed(config.seed)
    stage = AutoEncoderStage(config, MfeNet(attention=False), Split(files[1:], files[:1]), images())
    return Loop(stage, config, out, ALONE, resume=resume)


def run(made: Loop, stop_after: int | None = None) -> list[float]:
    stop, losses = threading.Event(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step == stop_after:
            stop.set()

    assert made.run(stop, report) == (stop_after is None)
    return losses


class TestSteadiness:
    class Restless(torch.nn.Module):
        """Changes more than its sources, and remembers what it saw."""

        seen: tuple[torch.Tensor, torch.Tensor]

        def forward(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
            self.seen = infrared, visible
            return torch.sin(60 * infrared)

    def test_every_fourth_pair_is_seen_twice(self, files: list[Path]) -> None:
        split = Split([(files[0], files[1])], [(files[2], files[3])])
        found: dict[str, Loss] = {}

        def drawn(columns: int) -> torch.Tensor:
            return torch.arange(5.0)[:, None].expand(5, columns) / 7

        for name, weights in (("without", {}), ("with", {"flicker": 2.0, "luminance": 3.0})):
            config = FusionConfig(batch=5, crop_px=32, workers=0, steadiness=Steadiness(**weights))
            stage = FusionStage(config, MfeNet(), split, images(), attention_only=False)
            crops = [stage.crops[number] for number in range(5)]
            batch = tuple(torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
            network = self.Restless()
            made = stage.make(network, batch, drawn)
            assert len(made) == 5 + 2 * bool(weights)
            for band, seen in zip(batch[:2], network.seen, strict=True):
                assert torch.equal(seen[:5], band)
                for again, first in zip(seen[5:], (0, 4), strict=False):
                    assert 0 < float((again - band[first]).abs().mean()) < 0.05
            if weights:
                noise = network.seen[0][5:] - batch[0][::4]
                assert not torch.equal(noise[0], noise[1]), "each has its own"
            found[name] = stage.generator_loss(made, None, batch, drawn)
        terms = {name: float(value) for name, value in found["with"].terms.items()}
        assert terms["flicker"] > 0 and not {"flicker", "luminance"} & found["without"].terms.keys()
        more = 2 * terms["flicker"] + 3 * terms["luminance"]
        assert float(found["with"].total) == pytest.approx(float(found["without"].total) + more, rel=1e-5)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_resumed_run_equals_an_uninterrupted_one(self, precision: str, files: list[Path], tmp_path: Path) -> None:
        values = {"steps": 4, "batch": 5, "crop_px": 32, "validate_every": 4, "workers": 0, "validation_images": 1}
        weights = Steadiness(flicker=1.0, luminance=1.0)
        config = FusionConfig(**values, precision=precision, steadiness=weights)
        split = Split([(files[0], files[1])], [(files[2], files[3])])

        def of(out: str, *, resume: bool = False) -> Loop:
            torch.manual_seed(1)
            stage = FusionStage(config, MfeNet(), split, images(), attention_only=True)
            return Loop(stage, config, tmp_path / out, ALONE, resume=resume)

        whole = run(of("whole"))
        assert whole == run(of("parts"), stop_after=2) + run(of("parts", resume=True))


class TestLoop:
    @pytest.mark.parametrize("adversarial", [0.0, 0.1])
    def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
        self, adversarial: float, files: list[Path], tmp_path: Path
    ) -> None:
        whole = run(loop(files, tmp_path / "whole", adversarial=adversarial))
        parts = run(loop(files, tmp_path / "parts", adversarial=adversarial), stop_after=3)
        parts += run(loop(files, tmp_path / "parts", adversarial=adversarial, resume=True))
        assert whole == parts
        for name in (NETWORKS, OPTIMISERS):
            both = [read_tensors(tmp_path / out / "checkpoints" / "0000006" / name) for out in ("whole", "parts")]
            assert both[0][1] == both[1][1] and both[0][0].keys() == both[1][0].keys()
            assert all(torch.equal(both[0][0][key], both[1][0][key]) for key in both[0][0])

    def test_it_learns(self, files: list[Path], tmp_path: Path) -> None:
        camera = Camera(swap=0, same=0, flat=0, low_light=0, invert=0)
        changes = {"adversarial": 0.0, "skip_dropout": 0.0, "camera": camera}
        losses = run(loop(files, tmp_path, steps=50, validate_every=50, learning_rate=4e-3, **changes))
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])

    def test_both_sides_learn(self, files: list[Path], tmp_path: Path) -> None:
        made = loop(files, tmp_path, adversarial=0.1)
        critic = made._stage.critic
        assert critic is not None
        before = {k: v.clone() for k, v in critic.state_dict().items()}
        run(made)
        assert all(not torch.equal(v, before[k]) for k, v in critic.state_dict().items() if k.endswith("weight"))

    def test_the_attention_alone_is_trained(self, files: list[Path], tmp_path: Path) -> None:
        config = FusionConfig(steps=2, batch=2, crop_px=32, validate_every=2, workers=0, validation_images=1)
        network = MfeNet()
        before = {k: v.clone() for k, v in network.state_dict().items()}
        split = Split([(files[0], files[1])], [(files[2], files[3])])
        made = Loop(FusionStage(config, network, split, images(), attention_only=True), config, tmp_path, ALONE)
        assert made.run(threading.Event())
        changed = {k.split(".")[0] for k, v in made.result.state_dict().items() if not torch.equal(v, before[k])}
        assert changed == {"attention"}

    def test_it_ends_early_where_nothing_gets_better(self, files: list[Path], tmp_path: Path) -> None:
        made = loop(files, tmp_path, steps=50, learning_rate=1e-12, validate_every=1, patience=2, ema_decay=0.0)
        run(made)
        assert made.progress.step < 50 and made.progress.without_better == 2

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, files: list[Path], tmp_path: Path) -> None:
        run(loop(files, tmp_path), stop_after=1)
        with pytest.raises(OutputExistsError, match="--resume"):
            loop(files, tmp_path)
        with pytest.raises(UsageError, match=r"ssim was 1\.0, is 2\.0"):
            loop(files, tmp_path, resume=True, ssim=2.0)

    def test_a_diverged_run_stops_with_a_reason(self, files: list[Path], tmp_path: Path) -> None:
        made = loop(files, tmp_path)
        with torch.no_grad():
            next(made._generator.parameters()).fill_(float("nan"))
        with pytest.raises(EngineError, match="lower learning_rate"):
            made.run(threading.Event())

    def test_bf16_trains_and_fp16_needs_a_gpu(self, files: list[Path], tmp_path: Path) -> None:
        assert choose_precision("auto", torch.device("cpu")) == torch.float32
        with pytest.raises(UsageError, match="GPUs only"):
            choose_precision("fp16", torch.device("cpu"))
        losses = run(loop(files, tmp_path, steps=2, precision="bf16", crop_px=16))
        assert all(np.isfinite(losses))

    def test_batches_that_cannot_be_shared(self, files: list[Path], tmp_path: Path) -> None:
        stage = AutoEncoderStage(tiny(), MfeNet(attention=False), Split(files, files), images())
        with pytest.raises(UsageError, match="3 crops"):
            Loop(stage, RunConfig(batch=3), tmp_path, Processes(torch.device("cpu"), 0, 2))


_TWO = """
import json, sys, threading, time, torch
from contextlib import suppress
from pathlib import Path
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.folders import photographs
from fusepipe.train.loop import Loop
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.processes import joined
from fusepipe.train.run_config import Stage1Config
from fusepipe.train.stages import AutoEncoderStage
torch.set_num_threads(1)
photos, out = Path(sys.argv[1]), Path(sys.argv[2])
config = Stage1Config(steps=4, batch=4, crop_px=24, validate_every=2, workers=0, adversarial=0.1, validation_images=1)
def train(processes):
    torch.manual_seed(processes.rank)  # another start in each process: the first one's is what counts
    stage = AutoEncoderStage(config, MfeNet(attention=False), photographs(photos), DecodedImages(800))
    losses = []
    Loop(stage, config, out, processes).run(threading.Event(), lambda step, loss: losses.append(loss))
    if processes.first:
        (out / "losses.json").write_text(json.dumps(losses))
def gloo_threads():
    names = []
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names.append(task.read_text().strip())
    return [name for name in names if "gloo" in name]
with joined(torch.device("cpu")) as processes:
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


class TestConfig:
    def test_the_default_is_complete_and_cheap_enough(self) -> None:
        config = load_mfe_config("default")
        assert config.network.dense and config.network.attention and config.network.skips
        assert all(stage.clip_norm > 0 for stage in (config.stage1, config.attention, config.finetune))

    def test_an_ablation_trains_the_attention_as_the_rest(self) -> None:
        config = load_mfe_config("default", shipped="ablation")
        steps = {"steps", "validate_every"}
        assert config.attention.model_dump(exclude=steps) == config.finetune.model_dump(exclude=steps)
        assert config.attention.steps < config.finetune.steps
        shipped = load_mfe_config("default")
        assert (config.finetune.losses, config.finetune.camera) == (shipped.finetune.losses, shipped.finetune.camera)
        assert config.network == shipped.network

    def test_mistakes_name_file_and_key(self, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("finetune: {camera: {gian: 0.2}}")
        with pytest.raises(ConfigError, match=r"own.yaml: finetune.camera.gian: unknown key: did you mean 'gain'"):
            load_mfe_config(str(tmp_path / "own.yaml"))


class TestCommand:
    CONFIG = "{steps: 3, batch: 2, crop_px: 32, validate_every: 2, validation_images: 1, workers: 0, threads: 1}"

    @pytest.fixture
    def arguments(self, tmp_path: Path) -> list[str]:
        for n in range(3):
            write(tmp_path / "photos" / f"{n}.png", seed=n)
            for band, seed in (("ir", 10 + n), ("vis", 20 + n)):
                write(tmp_path / "data" / "made" / band / f"{n}.png", seed=seed)
        pairs = self.CONFIG.replace("{", "{pairs: folders, ")
        config = tmp_path / "tiny.yaml"
        config.write_text(f"stage1: {self.CONFIG}\nattention: {pairs}\nfinetune: {pairs}\n")
        places = ["--photographs", tmp_path / "photos", "--data", tmp_path / "data", "--out", tmp_path / "out"]
        return ["mfe", "--config", str(config), *map(str, places), "--device", "cpu"]

    @pytest.mark.slow
    def test_all_stages_run_stop_and_go_on(self, arguments: list[str], tmp_path: Path) -> None:
        interrupt = (
            "import signal; from fusepipe.train.loop import Loop as L; step = L._step\n"
            "L._step = lambda self, *given: (signal.raise_signal(signal.SIGINT), step(self, *given))[1]"
        )
        stopped = train_in_child(arguments, interrupt)
        assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stderr
        done = train_in_child([*arguments, "--resume", "--json"])
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["stage"] == "finetune" and set(report["validation"]) >= {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM"}
        assert Path(report["onnx"]).is_file() and Path(report["weights"]).is_file()
        again = train_in_child([*arguments, "--resume"])
        assert again.returncode == 0 and "mfe.onnx" in again.stdout, again.stderr

    @pytest.mark.slow
    def test_the_ablation_prints_its_table(self, arguments: list[str], tmp_path: Path) -> None:
        test = tmp_path / "tno" / "pairs"
        for band, seed in (("ir", 30), ("vis", 31)):
            write(test / band / "a.png", 80, 96, seed=seed)
        out = tmp_path / "ablation"
        given = ["ablation", *arguments[1:], "--test", str(test), "--seeds", "1"]
        given[given.index("--out") + 1] = str(out)
        done = train_in_child(given)
        assert done.returncode == 0, done.stderr
        assert "| without D |" in done.stdout and "full is above without A in" in done.stdout
        assert (out / "table2.md").read_text() == done.stdout
        # the row without attention has the steps of its stage as well
        runs = {path.parts[-3]: json.loads(path.read_text())["step"] for path in out.glob("*/finetune/report.json")}
        assert runs == {"without-d-0": 3, "without-a-0": 6, "without-s-0": 3, "full-0": 3}
        assert len(list(out.glob("stage1-*"))) == 3
        again = train_in_child([*given, "--resume"])
        assert again.returncode == 0 and again.stdout == done.stdout, again.stderr
        config = Path(given[given.index("--config") + 1])
        config.write_text(config.read_text().replace("stage1:", "network: {overshoot: 0.5}\nstage1:"))
        other = train_in_child([*given, "--resume"])
        assert other.returncode == 2 and "overshoot was 1.0, is 0.5" in other.stderr
        config.write_text(config.read_text().replace("overshoot: 0.5", "dense: false"))
        lacking = train_in_child([*given, "--resume"])
        assert lacking.returncode == 2 and "switches off one part after another: leave all on" in lacking.stderr


def train_in_child(arguments: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
    """``fusepipe train`` as users run it: in a process of its own."""
    code = f"import sys\n{before}\nfrom fusepipe.cli import main\nmain(['train', *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
        # a shell that starts the tests in the background makes them ignore SIGINT, which children inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_resuming_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        train_stage1(load_mfe_config("default"), tmp_path, tmp_path / "absent", resume=True, device="cpu")


class TestProof:
    def test_ablation_rows_and_wins(self) -> None:
        metrics = ("MI", "CC", "VIF", "Qabf", "SCD", "SSIM")
        rows = [
            Row("without D", {metric: [1.0, 3.0] for metric in metrics}),
            Row("full", {metric: [2.5, 2.7] if metric != "CC" else [1.0, 1.0] for metric in metrics}),
        ]
        assert rows[0].mean("MI") == 2 and rows[0].spread("MI") == pytest.approx(2**0.5)
        assert wins(rows) == {"without D": 5}
        text = table(rows, {("pairs", "full", "MI"): 2.83})
        assert "| full | 2.600 ± 0.141 | 1.000 ± 0.000 |" in text and "| as printed | 2.83 |" in text

    def test_the_figures_show_both_runs(self, files: list[Path], tmp_path: Path) -> None:
        for name, adversarial in (("with", 0.1), ("without", 0.0)):
            made = loop(files, tmp_path / name, steps=20, validate_every=20, adversarial=adversarial)
            run(made)
            network = MfeNet(attention=False)
            network.autoencoder.load_state_dict(made.result.state_dict())
            save_mfe(tmp_path / name / "mfe.safetensors", network, {})
        big = tmp_path / "big"
        for n in range(2):
            write(big / f"{n}.png", 90, 120, seed=n)
        places = ["--with", tmp_path / "with", "--without", tmp_path / "without"]
        arguments = ["figures", *places, "--photographs", big, "--out", tmp_path / "out"]
        done = CliRunner().invoke(command, [str(a) for a in arguments])
        assert done.exit_code == 0, done.output
        svg = (tmp_path / "out" / "stage1-loss.svg").read_text()
        assert svg.count("<polyline") == 2 and "without discriminator" in svg
        pictures = cv2.imread(str(tmp_path / "out" / "stage1-pictures.png"))
        assert pictures is not None and pictures.shape[1] >= 3 * 256
        with pytest.raises(SourceError, match="stage 1"):
            read_curve(big, ("train/pixel",))


class TestPlot:
    def test_many_points_are_smoothed_and_few_are_not(self) -> None:
        few, many = ([(step, 1.0 + step % 2) for step in range(count)] for count in (10, 100))
        assert plot({"a": few}, "t", "y").count("<polyline") == 1
        assert plot({"a": many}, "t", "y").count("<polyline") == 2


class TestTeacher:
    def test_it_teaches_what_it_fuses(self, tmp_path: Path) -> None:
        torch.manual_seed(2)
        network = MfeNet().eval()
        save_mfe(tmp_path / "mfe.safetensors", network, {})
        teacher = Teacher(tmp_path / "mfe.safetensors")
        pair = torch.rand(2, 1, 1, 24, 24)
        taught = teacher(*pair)
        with torch.no_grad():
            assert torch.equal(taught, network(*pair))
        assert not taught.requires_grad and float(distillation_loss(taught, taught)) == 0
        # levels a tenth off, differences as they are
        assert float(distillation_loss(taught + 0.1, taught)) == pytest.approx(0.1, rel=1e-4)

    def test_a_student_may_teach_and_a_graph_may_not(self, tmp_path: Path) -> None:
        shipped = Path(__file__).parents[2] / "engines" / "weights"
        taught = Teacher(shipped / "stream.safetensors")(*torch.rand(2, 1, 1, 24, 24))
        assert taught.shape == (1, 1, 24, 24)
        with pytest.raises(UsageError, match="not a graph"):
            Teacher(shipped / "stream.onnx")
