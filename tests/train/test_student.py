"""Training of the students: the loop, resuming, export and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.made_pairs import make_pairs
from helpers.training import (
    assert_equal_checkpoints,
    interrupting,
    require_training,
    run_loop,
    train_in_child,
    write_pairs,
)

from fusepipe.commands import train_options
from fusepipe.core.errors import EngineError, OutputExistsError, UsageError

torch = require_training()

from fusepipe.train.checkpoint import CHECKPOINT
from fusepipe.train.configs.student import Finish, StudentConfig
from fusepipe.train.device import choose_device
from fusepipe.train.distributed import Processes
from fusepipe.train.loop import Loop
from fusepipe.train.networks.student import ByteFusion, StudentNet
from fusepipe.train.schedule import one_cycle
from fusepipe.train.session import student as session
from fusepipe.train.tasks.student import StudentTask, initial_student
from fusepipe.train.tasks.teacher import Teacher, teacher_path
from fusepipe.train.tensors import read_tensors
from fusepipe.train.weights import load_student, save_student

CPU = torch.device("cpu")


def tiny(**changes: object) -> StudentConfig:
    return StudentConfig(**{"steps": 8, "batch": 2, "crop_px": 32, "validate_every": 3, **changes})


def make_loop(config: StudentConfig, out: Path, network: StudentNet | None = None, *, resume: bool = False) -> Loop:
    network = network or initial_student(config, start=not resume)
    task = StudentTask(config, network, make_pairs(), make_pairs(1), CPU)
    settings, identity = session.student_settings(config), config.model_dump(mode="json")
    return Loop(task, settings, out, Processes(CPU), identity=identity, resume=resume)


def train(out: Path, *, resume: bool = False, stop_after: int | None = None, **changes: object) -> Loop:
    loop = make_loop(tiny(**changes), out, resume=resume)
    run_loop(loop, stop_after)
    return loop


class TestKept:
    def test_what_a_run_keeps_is_plain(self, tmp_path: Path) -> None:
        loop = train(tmp_path, branches=True)
        assert any(name.endswith("squeeze") for name, _ in loop.result.named_parameters())
        kept = session.plain_student(loop.result)
        assert [n for n, _ in kept.named_parameters()] == [n for n, _ in StudentNet(16, 4, 3).named_parameters()]

    def test_weights_of_an_earlier_step_are_averaged_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "load_pairs", lambda data, names, most: make_pairs())
        kept = {}
        for share in (0.0, 0.25, 1.0):
            finished = Finish(earlier=share, earlier_step=4, mixing=1, detail=1)  # no step of a validation
            session.train_student(tiny(finish=finished, halves=False), tmp_path, tmp_path / str(share))
            path = tmp_path / str(share) / "stream.safetensors"
            kept[share] = load_student(path).state_dict()
            assert read_tensors(path)[1]["earlier"] == str(share)
        session.train_student(tiny(halves=False), tmp_path, tmp_path / "short")
        assert read_tensors(tmp_path / "short" / "stream.safetensors")[1]["earlier"] == "0.0", (
            "what was done, not asked"
        )
        for name, last in kept[0.0].items():
            assert not last.requires_grad and torch.allclose(kept[0.25][name], last.lerp(kept[1.0][name], 0.25))
        assert any(not torch.equal(kept[0.0][name], kept[1.0][name]) for name in kept[0.0])


class TestLoop:
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
        assert_equal_checkpoints(tmp_path / "whole", tmp_path / "parts")

    def test_a_run_may_begin_with_given_weights(self, tmp_path: Path) -> None:
        given = StudentNet()
        torch.nn.init.zeros_(given.head.weight)
        save_student(tmp_path / "given.safetensors", given, {})
        config = tiny(start=str(tmp_path / "given.safetensors"))
        begun = initial_student(config, start=True)
        assert not begun.head.weight.any() and not make_loop(config, tmp_path / "run", begun).result.head.weight.any()
        assert initial_student(config, start=False).head.weight.any(), "a resumed run has weights of its own"
        with pytest.raises(EngineError, match="absent"):
            train(tmp_path / "other", start=str(tmp_path / "absent.safetensors"))

    def test_a_teacher_is_shipped_or_a_file_of_weights(self, tmp_path: Path) -> None:
        assert teacher_path("stream-hq").is_file() and teacher_path(str(tmp_path / "stream")) == tmp_path / "stream"
        with pytest.raises(UsageError, match=r"stream-hp.*or one of mfe, stream, stream-hq"):
            Teacher("stream-hp")

    def test_a_teacher_is_imitated(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.safetensors"
        torch.manual_seed(9)
        teacher = StudentNet(8, 5, 3)
        torch.nn.init.normal_(teacher.head.weight, std=2)
        save_student(path, teacher, {"model": "stream-hq"})
        (pair,) = make_pairs(1)
        images = [torch.from_numpy(image)[None, None].float() / 255 for image in (pair.infrared, pair.visible)]

        def distance(folder: str, **changes: object) -> float:
            config = tiny(learning_rate=5e-3, steps=40, batch=4, **changes)
            network = initial_student(config, start=True)
            run_loop(make_loop(config, tmp_path / folder, network))
            with torch.no_grad():
                return float((network(*images) - load_student(path)(*images)).abs().mean())

        assert distance("taught", teacher=str(path), distillation=100.0) < 0.8 * distance("alone")

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        seen = run_loop(make_loop(tiny(learning_rate=5e-3, steps=60, batch=4), tmp_path))
        assert np.mean(seen[-10:]) < np.mean(seen[:10])

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, tmp_path: Path) -> None:
        train(tmp_path, stop_after=2)
        with pytest.raises(OutputExistsError, match="--resume"):
            train(tmp_path)
        with pytest.raises(UsageError, match="channels was 16, is 32"):
            train(tmp_path, resume=True, channels=32)
        with pytest.raises(UsageError, match="nothing to resume"):
            session.train_student(tiny(), tmp_path, tmp_path / "absent", resume=True)
        with pytest.raises(OutputExistsError, match="--resume"):
            session.train_student(tiny(), tmp_path, tmp_path)

    def test_a_damaged_checkpoint_is_told(self, tmp_path: Path) -> None:
        train(tmp_path, stop_after=2)
        (tmp_path / CHECKPOINT).write_bytes(b"\x00" * 50)
        with pytest.raises(EngineError, match="safetensors"):
            train(tmp_path, resume=True)

    def test_a_diverged_run_stops_with_a_reason(self, tmp_path: Path) -> None:
        network = initial_student(tiny(), start=True)
        with torch.no_grad():
            network.head.bias.fill_(float("nan"))
        with pytest.raises(EngineError, match=r"loss is nan at step 0: lower learning_rate"):
            run_loop(make_loop(tiny(), tmp_path, network))

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="--device cpu"):
            choose_device("cuda:9")
        assert choose_device("cpu").type == "cpu"


class TestExport:
    @pytest.mark.slow
    def test_the_exported_graph_agrees_with_torch(self, tmp_path: Path) -> None:
        from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser
        from fusepipe.engines.cache import CompileCache
        from fusepipe.train.export import export_student

        torch.manual_seed(3)
        save_student(tmp_path / "w.safetensors", StudentNet(), {"seed": "3"})
        network = load_student(tmp_path / "w.safetensors")
        export_student(network, tmp_path / "w.onnx")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["w.onnx", "w.safetensors"]
        cache = CompileCache(tmp_path / "cache")
        rng = np.random.default_rng(0)
        with OpenVinoFuser("stream", (tmp_path / "w.onnx").read_bytes(), "fp32", cache=cache) as fuser:
            for height, width in ((32, 48), (2, 2), (54, 78)):
                infrared, visible = rng.integers(0, 256, (2, height, width), np.uint8)
                with torch.no_grad():
                    inputs = (torch.from_numpy(image)[None, None] for image in (infrared, visible))
                    expected = ByteFusion(network)(*inputs)[0, 0].numpy()
                difference = np.abs(fuser.fuse(infrared, visible).astype(int) - expected)
                # sums in another order may round the other way at .5
                assert difference.max() <= 1 and (difference > 0).mean() < 0.005


class TestShippedWeights:
    @pytest.mark.parametrize("model", ["stream", "stream-hq"])
    def test_the_shipped_weights_and_graph_are_the_same_network(self, model: str) -> None:
        from fusepipe.engines.load import load_model

        weights = Path(__file__).parents[2] / "engines" / "weights" / f"{model}.safetensors"
        network = load_student(weights)
        pair = make_pairs(1, 96, 128)[0]
        with torch.no_grad():
            inputs = (torch.from_numpy(image)[None, None] for image in (pair.infrared, pair.visible))
            expected = ByteFusion(network)(*inputs)[0, 0].numpy()
        with load_model(model, precision="fp32") as fuser:
            difference = np.abs(fuser.fuse(pair.infrared, pair.visible).astype(int) - expected)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.005


SPLIT = (
    "from fusepipe.train.session import student\n"
    "student.read_split = lambda split: [('made', 'a' if split == 'train' else 'b')]\n"
)


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        return write_pairs(tmp_path / "data")

    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text("{steps: 3, batch: 1, crop_px: 32, validate_every: 2}")
        return path

    @pytest.mark.slow
    def test_it_trains_exports_and_scores(self, data: Path, config: Path, tmp_path: Path) -> None:
        arguments = ["student", "--config", str(config), "--data", str(data), "--out", str(tmp_path / "out")]
        done = train_in_child([*arguments, "--seed", "4", "--device", "cpu", "--json"], SPLIT)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["finished"] and report["seed"] == 4 and report["step"] == 3
        assert set(report["validation"]) == {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM"}
        assert {"stream.onnx", "stream.safetensors", "scores.json", CHECKPOINT} <= {
            p.name for p in (tmp_path / "out").iterdir()
        }

    @pytest.mark.slow
    def test_an_interrupt_leaves_a_checkpoint(self, data: Path, config: Path, tmp_path: Path) -> None:
        arguments = ["student", "--config", str(config), "--data", str(data), "--out", str(tmp_path / "out")]
        stopped = train_in_child(arguments, SPLIT + interrupting("fusepipe.train.tasks.student", "StudentTask"))
        assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stderr
        done = train_in_child([*arguments, "--resume"], SPLIT)
        assert done.returncode == 0, done.stderr


def test_missing_packages_give_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_options, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'fusepipe\[train\]'"):
        train_options.require_training()
