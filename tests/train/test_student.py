"""Training of the student: network, resuming, export and the command."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.commands import training
from fusepipe.core.errors import ConfigError, EngineError, OutputExistsError, UsageError

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'fusepipe[train]'")
pytest.importorskip("safetensors", reason="training needs safetensors: pip install 'fusepipe[train]'")
pytest.importorskip("onnxscript", reason="the export needs onnxscript: pip install 'fusepipe[train]'")
pytest.importorskip("tensorboard", reason="training needs tensorboard: pip install 'fusepipe[train]'")

from helpers.made_pairs import make_pairs  # noqa: E402

from fusepipe.train import session  # noqa: E402
from fusepipe.train.checkpoint import CHECKPOINT, load_weights, read_tensors, save_weights  # noqa: E402
from fusepipe.train.config import Finish, StudentConfig, load_config  # noqa: E402
from fusepipe.train.losses.steadiness import SecondLook, steadiness  # noqa: E402
from fusepipe.train.networks.branches import branch, folded  # noqa: E402
from fusepipe.train.networks.student import ByteStudent, StudentNet, finish, macs_per_pixel  # noqa: E402
from fusepipe.train.teacher import Teacher, weights_of  # noqa: E402
from fusepipe.train.trainer import BEST, StudentTrainer, choose_device, one_cycle  # noqa: E402


def tiny(**changes: object) -> StudentConfig:
    return StudentConfig(steps=8, batch=2, crop_px=32, validate_every=3, **changes)  # type: ignore[arg-type]


def train(out: Path, *, resume: bool = False, stop_after: int | None = None, **changes: object) -> StudentTrainer:
    trainer = StudentTrainer(tiny(**changes), make_pairs(), make_pairs(1), out, resume=resume)
    stop = threading.Event()

    def report(step: int, loss: float) -> None:
        if step == stop_after:
            stop.set()

    result = trainer.run(stop, report)
    assert result.finished == (stop_after is None)
    return trainer


class TestNetwork:
    def test_it_is_small(self) -> None:
        assert macs_per_pixel(StudentNet()) <= 7000
        large = load_config("stream-hq")
        assert macs_per_pixel(StudentNet(large.channels, large.encoder_layers, large.decoder_layers)) <= 20_000

    @pytest.mark.parametrize("level", [0.0, 1.0])
    def test_black_and_white_stay_whatever_the_weights(self, level: float) -> None:
        torch.manual_seed(1)
        network = StudentNet()
        torch.nn.init.normal_(network.head.weight, std=20)
        image = torch.full((1, 1, 32, 32), level)
        assert torch.equal(network(image, image), image)

    def test_the_unshuffle_convolution_is_pixel_unshuffle(self) -> None:
        image = torch.rand(2, 1, 8, 6)
        network = StudentNet()
        cells = torch.nn.functional.conv2d(image, network.unshuffle, stride=2)
        assert torch.equal(cells, torch.nn.functional.pixel_unshuffle(image, 2))

    def test_finishing_trades_mixing_and_detail(self) -> None:
        torch.manual_seed(4)
        infrared, visible = torch.rand(2, 1, 1, 32, 32)
        plain = StudentNet()
        torch.nn.init.normal_(plain.head.weight, std=0.5)

        def finished(mixing: float, detail: float) -> torch.Tensor:
            network = copy.deepcopy(plain)
            finish(network, mixing, detail)
            return network(infrared, visible).detach()

        def from_a_source(fused: torch.Tensor) -> float:
            return float(torch.minimum((fused - infrared).abs(), (fused - visible).abs()).mean())

        assert torch.equal(finished(1, 1), plain(infrared, visible))
        mixed = finished(1, 0)
        assert bool(((mixed - infrared) * (mixed - visible) <= 1e-6).all())
        assert from_a_source(finished(4, 0)) < 0.9 * from_a_source(mixed)

    def test_the_output_stays_in_range(self) -> None:
        torch.manual_seed(2)
        network = StudentNet()
        torch.nn.init.normal_(network.head.weight, std=20)
        fused = network(torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)).detach()
        assert float(fused.min()) >= 0 and float(fused.max()) <= 1


class TestBranches:
    def test_they_fold_into_the_plain_network(self) -> None:
        torch.manual_seed(5)
        network = StudentNet()
        plain_start = copy.deepcopy(network)
        branch(network)
        images = torch.rand(2, 1, 1, 32, 48)
        branched = network(*images).detach()
        assert not torch.allclose(branched, plain_start(*images)), "the branches add something"
        plain = folded(network)
        assert torch.allclose(plain(*images), branched, atol=1e-6)
        assert plain.state_dict().keys() == plain_start.state_dict().keys()
        assert macs_per_pixel(plain) == macs_per_pixel(plain_start)
        assert torch.equal(network(*images), branched), "the given network stays as it is"

    def test_what_a_run_keeps_is_plain(self, tmp_path: Path) -> None:
        trainer = train(tmp_path, branches=True)
        assert any(name.endswith("squeeze") for name, _ in trainer._network.named_parameters())
        kept = load_weights(tmp_path / BEST)
        assert [n for n, _ in kept.named_parameters()] == [n for n, _ in StudentNet(16, 4, 3).named_parameters()]

    def test_weights_of_an_earlier_step_are_averaged_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "load_pairs", lambda data, names, most: make_pairs())
        kept = {}
        for share in (0.0, 0.25, 1.0):
            finished = Finish(earlier=share, earlier_step=4, mixing=1, detail=1)  # no step of a validation
            session.train_student(tiny(finish=finished, halves=False), tmp_path, tmp_path / str(share))
            path = tmp_path / str(share) / "stream.safetensors"
            kept[share] = load_weights(path).state_dict()
            assert read_tensors(path)[1]["earlier"] == str(share)
        session.train_student(tiny(halves=False), tmp_path, tmp_path / "short")
        assert read_tensors(tmp_path / "short" / "stream.safetensors")[1]["earlier"] == "0.0", (
            "what was done, not asked"
        )
        for name, last in kept[0.0].items():
            assert not last.requires_grad and torch.allclose(kept[0.25][name], last.lerp(kept[1.0][name], 0.25))
        assert any(not torch.equal(kept[0.0][name], kept[1.0][name]) for name in kept[0.0])


class TestSteadiness:
    @staticmethod
    def terms(network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> tuple[float, float]:
        torch.manual_seed(6)
        images = torch.rand(2, 3, 1, 48, 48) * 0.6 + 0.2
        look = SecondLook.at(images[0], 11)
        second = network(*look.seen(images[0], images[1]))
        flicker, luminance = steadiness(images[0], images[1], network(*images), second, look)
        return float(flicker), float(luminance)

    def test_a_calm_network_costs_nothing(self) -> None:
        # the infrared image alone would flicker as much as it does itself, which is above the calm that is asked for
        assert self.terms(lambda ir, vis: (ir + vis).mean(dim=(2, 3), keepdim=True) / 2 + 0 * ir) == (0.0, 0.0)
        assert self.terms(lambda ir, vis: ir)[1] == pytest.approx(0, abs=0.02)

    def test_more_noise_and_larger_steps_than_the_sources_cost(self) -> None:
        flicker = [self.terms(lambda ir, vis, gain=gain: torch.sin(gain * ir))[0] for gain in (1.0, 20.0, 60.0)]
        assert flicker[0] < 1 < flicker[1] < flicker[2]
        luminance = [self.terms(lambda ir, vis, gain=gain: gain * (ir + vis) / 2)[1] for gain in (1.0, 3.0, 6.0)]
        assert luminance[0] < 0.02 < luminance[1] < luminance[2]

    def test_a_second_look_is_the_same_for_the_same_seed(self) -> None:
        image = torch.zeros(4, 1, 8, 8)
        first, again, other = (SecondLook.at(image, seed) for seed in (3, 3, 4))
        assert torch.equal(first.noise[0], again.noise[0]) and torch.equal(first.exposure[1], again.exposure[1])
        assert not torch.equal(first.noise[0], other.noise[0])
        assert not torch.equal(first.noise[0], first.noise[1])


class TestConfig:
    def test_the_default_is_the_models_defaults(self) -> None:
        assert load_config("default") == StudentConfig()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("step: 3", "step: unknown key: did you mean 'steps'"),
            ("losses: {gradent: 1}", "losses.gradent: unknown key: did you mean 'gradient'"),
            ("steps: 0", "steps: Input should be greater than 0"),
            ("[1, 2]", "document"),
            ("steps: [", "not valid YAML"),
        ],
    )
    def test_mistakes_name_file_and_key(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_config(str(path))
        assert str(path) in str(caught.value) and message in str(caught.value)

    def test_a_teacher_and_its_weight_go_together(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        for text in ("distillation: 2", "teacher: some.safetensors"):
            path.write_text(text)
            with pytest.raises(ConfigError, match="give both or neither"):
                load_config(str(path))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="give 'default', 'stream-hq' or a YAML file"):
            load_config(str(tmp_path / "absent.yaml"))


class TestTrainer:
    def test_the_rate_is_torchs_one_cycle(self) -> None:
        optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=50, cycle_momentum=False)
        for step in range(50):
            assert one_cycle(step, 50, 2e-3) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
            optimiser.step()
            if step < 49:
                schedule.step()
        for steps in (1, 2, 3, 10):
            assert all(0 < one_cycle(step, steps, 1.0) <= 1 for step in range(steps))

    def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(self, tmp_path: Path) -> None:
        train(tmp_path / "whole")
        train(tmp_path / "parts", stop_after=4)
        train(tmp_path / "parts", resume=True)
        for name in (CHECKPOINT, BEST):
            whole, parts = (read_tensors(tmp_path / folder / name) for folder in ("whole", "parts"))
            assert whole[1] == parts[1] and whole[0].keys() == parts[0].keys()
            assert all(torch.equal(whole[0][key], parts[0][key]) for key in whole[0])

    def test_a_run_may_begin_with_given_weights(self, tmp_path: Path) -> None:
        given = StudentNet()
        torch.nn.init.zeros_(given.head.weight)
        save_weights(tmp_path / "given.safetensors", given, {})
        begun = StudentTrainer(
            tiny(start=str(tmp_path / "given.safetensors")), make_pairs(), make_pairs(1), tmp_path / "run"
        )
        assert not begun._network.head.weight.any() and not begun._average.head.weight.any()
        with pytest.raises(EngineError, match="absent"):
            train(tmp_path / "other", start=str(tmp_path / "absent.safetensors"))

    def test_a_teacher_is_shipped_or_a_file_of_weights(self, tmp_path: Path) -> None:
        assert weights_of("stream-hq").is_file() and weights_of(str(tmp_path / "stream")) == tmp_path / "stream"
        with pytest.raises(UsageError, match=r"stream-hp.*or one of mfe, stream, stream-hq"):
            Teacher("stream-hp")

    def test_a_teacher_is_imitated(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.safetensors"
        torch.manual_seed(9)
        teacher = StudentNet(8, 5, 3)
        torch.nn.init.normal_(teacher.head.weight, std=2)
        save_weights(path, teacher, {"model": "stream-hq"})
        (pair,) = make_pairs(1)
        images = [torch.from_numpy(image)[None, None].float() / 255 for image in (pair.infrared, pair.visible)]

        def distance(folder: str, **changes: object) -> float:
            config = tiny(learning_rate=5e-3, **changes).model_copy(update={"steps": 40, "batch": 4})
            trainer = StudentTrainer(config, make_pairs(), make_pairs(1), tmp_path / folder)
            trainer.run(threading.Event())
            with torch.no_grad():
                return float((trainer._network(*images) - load_weights(path)(*images)).abs().mean())

        assert distance("taught", teacher=str(path), distillation=100.0) < 0.8 * distance("alone")

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        seen: list[float] = []
        config = tiny(learning_rate=5e-3).model_copy(update={"steps": 60, "batch": 4})
        trainer = StudentTrainer(config, make_pairs(), make_pairs(1), tmp_path)
        trainer.run(threading.Event(), lambda step, loss: seen.append(loss))
        assert np.mean(seen[-10:]) < np.mean(seen[:10])

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, tmp_path: Path) -> None:
        train(tmp_path, stop_after=2)
        with pytest.raises(OutputExistsError, match="--resume"):
            train(tmp_path)
        with pytest.raises(UsageError, match="channels was 16, is 32"):
            train(tmp_path, resume=True, channels=32)
        with pytest.raises(UsageError, match="nothing to resume"):
            train(tmp_path / "absent", resume=True)

    def test_a_damaged_checkpoint_is_told(self, tmp_path: Path) -> None:
        train(tmp_path, stop_after=2)
        (tmp_path / CHECKPOINT).write_bytes(b"\x00" * 50)
        with pytest.raises(EngineError, match="safetensors"):
            train(tmp_path, resume=True)

    def test_a_diverged_run_stops_with_a_reason(self, tmp_path: Path) -> None:
        trainer = StudentTrainer(tiny(), make_pairs(), make_pairs(1), tmp_path)
        with torch.no_grad():
            trainer._network.head.bias.fill_(float("nan"))
        with pytest.raises(EngineError, match="lower learning_rate"):
            trainer.run(threading.Event())

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="--device cpu"):
            choose_device("cuda:9")
        assert choose_device("cpu").type == "cpu"


class TestExport:
    @pytest.mark.slow
    def test_the_exported_graph_agrees_with_torch(self, tmp_path: Path) -> None:
        from fusepipe.engines.backends.openvino import OpenVinoFuser
        from fusepipe.engines.cache import CompileCache
        from fusepipe.train.export import export_student

        torch.manual_seed(3)
        save_weights(tmp_path / "w.safetensors", StudentNet(), {"seed": "3"})
        network = load_weights(tmp_path / "w.safetensors")
        export_student(network, tmp_path / "w.onnx")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["w.onnx", "w.safetensors"]
        cache = CompileCache(tmp_path / "cache")
        rng = np.random.default_rng(0)
        with OpenVinoFuser("stream", (tmp_path / "w.onnx").read_bytes(), "fp32", cache=cache) as fuser:
            for height, width in ((32, 48), (2, 2), (54, 78)):
                infrared, visible = rng.integers(0, 256, (2, height, width), np.uint8)
                with torch.no_grad():
                    inputs = (torch.from_numpy(image)[None, None] for image in (infrared, visible))
                    expected = ByteStudent(network)(*inputs)[0, 0].numpy()
                difference = np.abs(fuser.fuse(infrared, visible).astype(int) - expected)
                # sums in another order may round the other way at .5
                assert difference.max() <= 1 and (difference > 0).mean() < 0.005


class TestShippedWeights:
    @pytest.mark.parametrize("model", ["stream", "stream-hq"])
    def test_the_shipped_weights_and_graph_are_the_same_network(self, model: str) -> None:
        from fusepipe.engines.load import load_model

        weights = Path(__file__).parents[2] / "engines" / "weights" / f"{model}.safetensors"
        network = load_weights(weights)
        pair = make_pairs(1, 96, 128)[0]
        with torch.no_grad():
            inputs = (torch.from_numpy(image)[None, None] for image in (pair.infrared, pair.visible))
            expected = ByteStudent(network)(*inputs)[0, 0].numpy()
        with load_model(model, precision="fp32") as fuser:
            difference = np.abs(fuser.fuse(pair.infrared, pair.visible).astype(int) - expected)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.005


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        """Two made pairs in a data folder."""
        for pair, stem in zip(make_pairs(2), ("a", "b"), strict=True):
            for band, image in (("ir", pair.infrared), ("vis", pair.visible)):
                folder = tmp_path / "data" / "made" / band
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{stem}.png"), image)
        return tmp_path / "data"

    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text("{steps: 3, batch: 1, crop_px: 32, validate_every: 2}")
        return path

    @pytest.mark.slow
    def test_it_trains_exports_and_scores(self, data: Path, config: Path, tmp_path: Path) -> None:
        arguments = ["student", "--config", str(config), "--data", str(data), "--out", str(tmp_path / "out")]
        done = train_in_child([*arguments, "--seed", "4", "--device", "cpu", "--json"])
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["finished"] and report["seed"] == 4 and report["step"] == 3
        assert set(report["validation"]) == {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM"}
        assert {"stream.onnx", "stream.safetensors", "scores.json", BEST, CHECKPOINT} <= {
            p.name for p in (tmp_path / "out").iterdir()
        }

    @pytest.mark.slow
    def test_an_interrupt_leaves_a_checkpoint(self, data: Path, config: Path, tmp_path: Path) -> None:
        arguments = ["student", "--config", str(config), "--data", str(data), "--out", str(tmp_path / "out")]
        interrupt = (
            "import signal; from fusepipe.train.trainer import StudentTrainer as T; step = T._step\n"
            "T._step = lambda self, number: (signal.raise_signal(signal.SIGINT), step(self, number))[1]"
        )
        stopped = train_in_child(arguments, interrupt)
        assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stderr
        done = train_in_child([*arguments, "--resume"])
        assert done.returncode == 0, done.stderr


def train_in_child(arguments: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
    """``fusepipe train`` on the split of two made pairs, as users run it: in a process of its own."""
    code = (
        "import sys; from fusepipe.train import session\n"
        "session.read_split = lambda split: [('made', 'a' if split == 'train' else 'b')]\n"
        f"{before}\n"
        "from fusepipe.cli import main; main(['train', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        # a shell that starts the tests in the background makes them ignore SIGINT, which children inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_missing_packages_give_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'fusepipe\[train\]'"):
        training.require_training()
