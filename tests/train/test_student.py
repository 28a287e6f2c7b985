"""Training of the students: the loop, resuming, export and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

from fusepipe.commands.console import training
from fusepipe.core.errors import EngineError, OutputExistsError, SourceError, UsageError
from fusepipe.core.frames import Luma8

torch = require_training()


from fusepipe.train.checkpoint import CHECKPOINT
from fusepipe.train.configs.student import DetectorLossConfig, StudentConfig
from fusepipe.train.data.detector_scenes import DetectorScene, detector_scenes
from fusepipe.train.data.split import read_split
from fusepipe.train.data.teacher_pairs import DistillationPair, Teacher, split_files
from fusepipe.train.device import choose_device
from fusepipe.train.distributed import Processes
from fusepipe.train.loop import Loop
from fusepipe.train.networks.byte_fusion import ByteFusion
from fusepipe.train.networks.detector import Detector, scores
from fusepipe.train.networks.pyramid import PyramidNet
from fusepipe.train.schedule import one_cycle
from fusepipe.train.session import student as session
from fusepipe.train.tasks.base import StepRandom
from fusepipe.train.tasks.detection import DetectionTerm, framed, to_bgr_batch
from fusepipe.train.tasks.student import StudentTask, initial_path, new_student
from fusepipe.train.tensors import read_tensors
from fusepipe.train.weights import load_mfe, load_student, save_student

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[2] / "engines" / "weights"


def tiny(**changes: object) -> StudentConfig:
    plain: dict[str, object] = {"steps": 6, "batch": 1, "crop_px": 64, "channels": 8, "validate_every": 3}
    return StudentConfig(**{**plain, "sets": {"made": 1.0}, "temporal_every": 2, **changes})  # type: ignore[arg-type]


def made_distillation_pairs() -> list[DistillationPair]:
    """Made pairs whose teacher is the mean."""
    pairs = make_pairs(3, 80, 96)
    stacks = [np.stack((p.infrared, p.visible, p.infrared // 2 + p.visible // 2)) for p in pairs]
    return [DistillationPair("made", str(n), "full", images) for n, images in enumerate(stacks)]


class FakeDetector:
    """Finds a person wherever an image is bright: a differentiable stand-in for a YOLOX file."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        level = torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True) / 255, 32).flatten(1)[..., None]
        return torch.cat(
            (torch.zeros_like(level).expand(-1, -1, 4), level, level, 0 * level.expand(-1, -1, 79)), dim=-1
        )


def made_scenes() -> list[DetectorScene]:
    return [DetectorScene("made", p.infrared, np.stack((p.visible,) * 3, axis=-1)) for p in make_pairs(2, 80, 96)]


def make_loop(
    config: StudentConfig, out: Path, network: PyramidNet | None = None, *, resume: bool = False, detect: bool = False
) -> Loop:
    network = network or new_student(config, start=not resume)
    term = DetectionTerm(FakeDetector(), made_scenes(), config.sets, config.seed, CPU) if detect else None  # type: ignore[arg-type]
    task = StudentTask(config, network, made_distillation_pairs(), make_pairs(1, 80, 96), term)
    settings, identity = session.student_settings(config), config.model_dump(mode="json")
    return Loop(task, settings, out, Processes(CPU), identity=identity, resume=resume)


def train(out: Path, *, resume: bool = False, stop_after: int | None = None, **changes: object) -> Loop:
    loop = make_loop(tiny(**changes), out, resume=resume, detect=True)
    run_loop(loop, stop_after)
    return loop


class TestLoop:
    def test_the_rate_is_torchs_one_cycle(self) -> None:
        optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=50, cycle_momentum=False)
        for step in range(50):
            assert one_cycle(step, 50, 2e-3) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
            optimiser.step()
            if step < 49:
                schedule.step()
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, 2e-3, total_steps=50, pct_start=0.1, cycle_momentum=False
        )
        assert one_cycle(0, 50, 2e-3, 0.1) == pytest.approx(schedule.get_last_lr()[0])
        assert one_cycle(4, 50, 2e-3, 0.1) == 2e-3
        for steps in (1, 2, 3, 10):
            assert all(0 < one_cycle(step, steps, 1.0) <= 1 for step in range(steps))

    def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(self, tmp_path: Path) -> None:
        train(tmp_path / "whole")
        train(tmp_path / "parts", stop_after=4)
        train(tmp_path / "parts", resume=True)
        assert_equal_checkpoints(tmp_path / "whole", tmp_path / "parts")

    def test_a_run_may_begin_with_given_weights(self, tmp_path: Path) -> None:
        given = PyramidNet(8)
        torch.nn.init.zeros_(given.head.weight)
        save_student(tmp_path / "given.safetensors", given, {})
        config = tiny(initial=str(tmp_path / "given.safetensors"), levels=2)
        begun, resumed = (new_student(config, start=start) for start in (True, False))
        assert isinstance(begun, PyramidNet) and isinstance(resumed, PyramidNet)
        assert not begun.head.weight.any() and not make_loop(config, tmp_path / "run", begun).result.head.weight.any()
        assert resumed.head.weight.any(), "a resumed run has weights of its own"
        with pytest.raises(EngineError, match="absent"):
            train(tmp_path / "other", initial=str(tmp_path / "absent.safetensors"))

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        config = tiny(learning_rate=5e-3, steps=40, batch=2, fusion={"start": 0.4, "end": 0.4})
        seen = run_loop(make_loop(config, tmp_path))
        assert np.mean(seen[-8:]) < np.mean(seen[:8])

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, tmp_path: Path) -> None:
        train(tmp_path, stop_after=2)
        with pytest.raises(OutputExistsError, match="--resume"):
            train(tmp_path)
        with pytest.raises(UsageError, match="channels was 8, is 16"):
            train(tmp_path, resume=True, channels=16)
        with pytest.raises(UsageError, match="nothing to resume"):
            session.train_student(tiny(), tmp_path, tmp_path / "absent", resume=True)
        with pytest.raises(OutputExistsError, match="--resume"):
            session.train_student(tiny(), tmp_path, tmp_path)

    def test_a_damaged_checkpoint_is_reported(self, tmp_path: Path) -> None:
        train(tmp_path, stop_after=2)
        (tmp_path / CHECKPOINT).write_bytes(b"\x00" * 50)
        with pytest.raises(EngineError, match="safetensors"):
            train(tmp_path, resume=True)

    def test_a_diverged_run_stops_with_a_reason(self, tmp_path: Path) -> None:
        network = new_student(tiny(), start=True)
        with torch.no_grad():
            network.head.bias.fill_(float("nan"))
        with pytest.raises(EngineError, match=r"loss is nan at step 0: lower learning_rate"):
            run_loop(make_loop(tiny(), tmp_path, network))

    def test_a_missing_device_is_reported(self) -> None:
        with pytest.raises(UsageError, match="--device cpu"):
            choose_device("cuda:9")
        assert choose_device("cpu").type == "cpu"


class TestTask:
    def terms(
        self, step: int, detect: bool = True, rivals: Sequence[Teacher] = (), **changes: Any
    ) -> tuple[float, dict[str, float]]:
        config = tiny(steps=10, **changes)
        network = new_student(config, start=True)
        term = DetectionTerm(FakeDetector(), made_scenes(), config.sets, 0, CPU) if detect else None  # type: ignore[arg-type]
        task = StudentTask(config, network, made_distillation_pairs(), [], term, rivals)
        random = StepRandom(0, step, 1, 0, 1, CPU)
        with torch.no_grad(), task.batches(0, 1, rank=0, world=1) as batches:
            batch = next(batches)
            loss = task.generator_loss(task.generate(network, batch, random), None, batch, random)
        return float(loss.total), {name: float(value) for name, value in loss.terms.items()}

    def test_the_total_is_the_weighted_sum_of_the_terms(self) -> None:
        config = tiny(steps=10, ranking=3.0)
        total, terms = self.terms(4, ranking=3.0, detection=DetectorLossConfig(start=0.0, every=2))
        weights = {name: config.fusion.at(0.4) * value for name, value in config.losses.model_dump().items()}
        weights |= {"teacher": config.teacher.at(0.4), "overflow": config.overflow, "agreement": config.agreement}
        weights |= {"target": config.target, "detection": config.detection.weight}
        weights |= config.temporal_consistency.model_dump() | {"ranking": config.ranking}
        assert 0 < terms["ranking"] < 1 and terms.keys() == weights.keys()
        assert total == pytest.approx(sum(weights[name] * value for name, value in terms.items()), rel=1e-5)

    def test_the_images_of_rivals_are_compared_with_as_well(self) -> None:
        class Infrared(Teacher):
            """Whose image is the infrared one, which loses against the mean of both sources."""

            def __init__(self) -> None:
                self.seen: list[Luma8] = []

            def fuse(self, infrared: Luma8, visible: Luma8) -> Luma8:  # type: ignore[override]
                assert infrared.dtype == visible.dtype == np.uint8
                self.seen.append(infrared)
                return infrared

        rival = Infrared()
        without, with_rival = (self.terms(1, ranking=1.0, rivals=r)[1]["ranking"] for r in ((), (rival,)))
        assert len(rival.seen) == 1 and rival.seen[0].shape == (64, 64)
        assert abs(with_rival - without) > 0.01

    def test_a_rival_that_cannot_be_read_is_named_before_the_training(self, tmp_path: Path) -> None:
        (tmp_path / "own.onnx").write_bytes(b"own")
        assert session.rival_content(str(tmp_path / "own.onnx")) == b"own"
        with pytest.raises(UsageError, match=r"rivals: stream-0\.2: cannot be read \(No such file.*ONNX"):
            session.rival_content("stream-0.2")

    def test_temporal_and_detection_terms_are_computed_every_few_steps(self) -> None:
        late = {"detection": DetectorLossConfig(start=0.5, every=3)}
        names = [set(self.terms(step, **late)[1]) for step in (0, 3, 6, 7)]
        assert ["flicker" in found for found in names] == [True, False, True, False]
        assert ["detection" in found for found in names] == [False, False, True, False], "from half of the run on"
        assert "detection" not in self.terms(6, detect=False, **late)[1]

    def test_the_teacher_is_imitated(self, tmp_path: Path) -> None:
        rest = dict.fromkeys(("agreement", "target", "overflow"), 0.0)
        none = {"start": 0.0, "end": 0.0}
        config = tiny(learning_rate=5e-3, steps=40, batch=2, fusion=none, teacher={"start": 20.0, "end": 20.0}, **rest)
        network = new_student(config, start=True)
        pair = made_distillation_pairs()[0].images
        infrared, visible, wanted = (torch.from_numpy(image)[None, None].float() / 255 for image in pair)

        def distance() -> float:
            with torch.no_grad():
                return float((network(infrared, visible) - wanted).abs().mean())

        before = distance()
        run_loop(make_loop(config, tmp_path, network))
        assert distance() < 0.7 * before


class TestDetectionTerm:
    def test_scenes_in_which_nothing_is_found_are_left_out(self) -> None:
        dark = DetectorScene("made", np.zeros((80, 96), np.uint8), np.zeros((80, 96, 3), np.uint8))
        detector = FakeDetector()
        assert len(DetectionTerm(detector, [dark, *made_scenes()], {"made": 1.0}, 0, CPU)) == 2  # type: ignore[arg-type]
        framing = DetectorScene("made", np.zeros((320, 416), np.uint8), np.zeros((320, 416, 3), np.uint8))
        with pytest.raises(SourceError, match="finds no person and no vehicle"):
            DetectionTerm(detector, [framing], {"made": 1.0}, 0, CPU)  # type: ignore[arg-type]

    def test_the_loss_depends_on_the_step_and_has_a_gradient(self) -> None:
        term = DetectionTerm(FakeDetector(), made_scenes(), {"made": 1.0}, 3, CPU)  # type: ignore[arg-type]
        network = new_student(tiny(), start=True)
        first, again, other = (term.loss(network, step) for step in (1, 1, 2))
        assert float(first.detach()) == float(again.detach()) != float(other.detach())
        first.backward()
        assert network.head.weight.grad is not None and bool(network.head.weight.grad.any())

    def test_images_are_coloured_as_opencv_does(self) -> None:
        import cv2

        image = np.random.default_rng(0).integers(0, 256, (1, 40, 3), np.uint8)
        planes = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb).transpose(2, 0, 1)).float()[None]
        back = to_bgr_batch(planes[:, :1], planes[:, 1:])[0].permute(1, 2, 0).numpy()
        assert np.abs(back - image).max() < 2.5
        assert framed(planes).shape == (1, 3, 320, 416)

    def test_a_file_that_is_not_a_detector(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="not a YOLOX detector"):
            Detector(SHIPPED / "mfe.onnx")
        (tmp_path / "broken.onnx").write_bytes(b"none")
        with pytest.raises(EngineError, match=r"broken\.onnx: cannot be read as ONNX"):
            Detector(tmp_path / "broken.onnx")

    @pytest.mark.data
    def test_the_detector_is_the_same_in_openvino(self, data_dir: Path) -> None:
        import openvino

        from fusepipe.engines.backends.openvino.network import shared_core

        path = data_dir / "detector" / "yolox_nano.onnx"
        detector, pairs = Detector(path), read_split("train", ["llvip"])[:2]
        made = list(detector_scenes(split_files(data_dir, pairs), 800))
        term = DetectionTerm(detector, made, {"llvip": 1.0}, 0, CPU)
        assert len(term) == 2, "people walk in both"
        image = torch.rand(1, 3, 416, 416) * 255
        image[..., :80, :80] = 114
        compiled = shared_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
        expected = torch.from_numpy(compiled(image.numpy())[0])
        with torch.no_grad():
            found = detector(image)
        assert torch.allclose(found, expected, atol=1e-3, rtol=1e-3)
        assert scores(found).shape == (1, 3549, 2)
        loss = term.loss(new_student(tiny(), start=True), 0)
        assert 0 < float(loss.detach()) < 10


class TestExport:
    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_what_a_run_keeps_is_exported_and_scored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser

        data = write_pairs(tmp_path / "data", 80, 96)
        monkeypatch.setattr(session, "read_split", lambda split: [("made", "a" if split == "train" else "b")])
        report = session.train_student(tiny(), data, tmp_path / "out", device="cpu")
        assert report["finished"] and report["detector"] is None
        network = load_student(Path(report["weights"]))
        assert read_tensors(Path(report["weights"]))[1]["steps"] == "6"
        (pair,) = make_pairs(1, 80, 96)
        with torch.no_grad():
            inputs = (torch.from_numpy(image)[None, None] for image in (pair.infrared, pair.visible))
            expected = ByteFusion(network)(*inputs)[0, 0].numpy()
        with OpenVinoFuser("stream", Path(report["onnx"]).read_bytes(), "fp32") as fuser:
            difference = np.abs(fuser.fuse(pair.infrared, pair.visible).astype(int) - expected)
        assert difference.max() <= 1
        with pytest.raises(UsageError, match="sets: 'mode' is not a data set of the split: did you mean 'made'"):
            session.train_student(tiny(sets={"mode": 1.0}), data, tmp_path / "other", device="cpu")
        with pytest.raises(UsageError, match="crop_px: no training image is as large as 128 px"):
            session.train_student(tiny(crop_px=128, batch=2), data, tmp_path / "other", device="cpu")
        assert not (tmp_path / "other").exists()

    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_mfe_is_trained_from_its_teacher_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser

        data = write_pairs(tmp_path / "data", 80, 96)
        monkeypatch.setattr(session, "read_split", lambda split: [("made", "a" if split == "train" else "b")])
        given = {"model": "mfe", "initial": "mfe-first", "crop_px": 400, "steps": 2, "ranking": 12}
        report = session.train_student(tiny(**given), data, tmp_path / "out", device="cpu")
        network = load_mfe(Path(report["weights"]))
        start = load_mfe(initial_path("mfe-first"))
        assert network.overshoot == start.overshoot
        assert not torch.equal(network.reconstruction.head.weight, start.reconstruction.head.weight)
        (pair,) = make_pairs(1, 80, 96)
        with torch.no_grad():
            inputs = (torch.from_numpy(image)[None, None] for image in (pair.infrared, pair.visible))
            expected = ByteFusion(network)(*inputs)[0, 0].numpy()
        with OpenVinoFuser("mfe", Path(report["onnx"]).read_bytes(), "fp32") as fuser:
            difference = np.abs(fuser.fuse(pair.infrared, pair.visible).astype(int) - expected)
        assert difference.max() <= 1
        assert (tmp_path / "out" / "mfe-attention.onnx").is_file()


class TestShippedWeights:
    @pytest.mark.parametrize("model", ["stream", "stream-hq"])
    def test_the_shipped_weights_and_graph_are_the_same_network(self, model: str) -> None:
        from fusepipe.engines.load import load_model

        weights = SHIPPED / f"{model}.safetensors"
        if "levels" not in read_tensors(weights)[1]:
            pytest.skip("weights of the earlier student")
        network = load_student(weights)
        pair = make_pairs(1, 96, 128)[0]
        with torch.no_grad():
            inputs = (torch.from_numpy(image)[None, None] for image in (pair.infrared, pair.visible))
            expected = ByteFusion(network)(*inputs)[0, 0].numpy()
        with load_model(model, precision="fp32") as fuser:
            difference = np.abs(fuser.fuse(pair.infrared, pair.visible).astype(int) - expected)
        assert difference.max() <= 1


SPLIT = (
    "from fusepipe.train.session import student\n"
    "student.read_split = lambda split: [('made', 'a' if split == 'train' else 'b')]\n"
)


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        return write_pairs(tmp_path / "data", 80, 96)

    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text("{steps: 3, batch: 1, crop_px: 64, channels: 8, validate_every: 2, sets: {made: 1}}")
        return path

    @pytest.mark.slow
    @pytest.mark.timeout(500)
    def test_an_interrupted_run_is_resumed_exported_and_scored(self, data: Path, config: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = ["student", "--config", str(config), "--data", str(data), "--out", str(out)]
        arguments += ["--seed", "4", "--device", "cpu"]
        stopped = train_in_child(arguments, SPLIT + interrupting("fusepipe.train.tasks.student", "StudentTask"))
        assert stopped.returncode == 130 and "--resume" in stopped.stderr, stopped.stderr
        assert (out / CHECKPOINT).is_file() and not (out / "stream.onnx").exists()
        done = train_in_child([*arguments, "--resume", "--json"], SPLIT)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["finished"] and report["seed"] == 4 and report["step"] == 3 and report["detector"] is None
        assert set(report["validation"]) == {"MI", "CC", "VIF", "Qabf", "SCD", "SSIM"}
        assert {"stream.onnx", "stream.safetensors", "scores.json", CHECKPOINT} <= {p.name for p in out.iterdir()}


def test_missing_packages_give_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'fusepipe\[train\]'"):
        training.require_training()
