"""The learned baselines: networks against their description, losses, the adversarial loop, export, the command."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fusepipe.commands import train as train_command
from fusepipe.commands import training
from fusepipe.core.errors import ConfigError, EngineError, Interrupted, OutputExistsError, SourceError, UsageError

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'fusepipe[train]'")
pytest.importorskip("safetensors", reason="training needs safetensors: pip install 'fusepipe[train]'")
pytest.importorskip("onnxscript", reason="the export needs onnxscript: pip install 'fusepipe[train]'")
pytest.importorskip("tensorboard", reason="training needs tensorboard: pip install 'fusepipe[train]'")

from fusepipe.train import baseline_session  # noqa: E402
from fusepipe.train.adversarial import BaselineTrainer  # noqa: E402
from fusepipe.train.baseline_config import BaselineConfig  # noqa: E402
from fusepipe.train.baseline_export import deployable, export_baseline  # noqa: E402
from fusepipe.train.baseline_session import BASELINES, load_baseline_config, load_photographs  # noqa: E402
from fusepipe.train.checkpoint import CHECKPOINT, read_tensors  # noqa: E402
from fusepipe.train.data.pairs import Pair  # noqa: E402
from fusepipe.train.networks import ddcgan, densefuse, fusiongan  # noqa: E402
from fusepipe.train.networks.borders import trim  # noqa: E402
from fusepipe.train.networks.student import ByteStudent  # noqa: E402
from fusepipe.train.recipes import make_recipe  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks gain nothing from more threads, and lose much where other programs run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NETWORKS = {"densefuse": densefuse.DenseFuseNet, "fusiongan": fusiongan.FusionGanNet, "ddcgan": ddcgan.DdcGanNet}


def made_pairs(count: int = 3, height: int = 48, width: int = 64) -> list[Pair]:
    rng = np.random.default_rng(5)

    def image() -> np.ndarray:
        return np.asarray(cv2.GaussianBlur(rng.integers(0, 256, (height, width), np.uint8), (0, 0), 2), np.uint8)

    return [Pair(f"made/{n}", image(), image()) for n in range(count)]


def tiny(name: str, **changes: object) -> BaselineConfig:
    return BASELINES[name](**{"steps": 3, "batch": 2, "crop_px": 20, "validate_every": 3, **changes})


def train(
    name: str, out: Path, *, resume: bool = False, stop_after: int | None = None, **changes: object
) -> tuple[BaselineTrainer, list[float]]:
    config = tiny(name, **changes)
    torch.manual_seed(config.seed)
    trainer = BaselineTrainer(config, make_recipe(config), made_pairs(), made_pairs(1), out, resume=resume)
    stop, losses = threading.Event(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step == stop_after:
            stop.set()

    assert trainer.run(stop, report) == (stop_after is None)
    return trainer, losses


class TestNetworks:
    @pytest.mark.parametrize(
        ("name", "widths"),
        [
            # (inputs, outputs, kernel) of each convolution, as the papers list them
            (
                "densefuse",
                [
                    *[(1, 16, 3), (16, 16, 3), (32, 16, 3), (48, 16, 3)],
                    *[(64, 64, 3), (64, 32, 3), (32, 16, 3), (16, 1, 3)],
                ],
            ),
            ("fusiongan", [(2, 256, 5), (256, 128, 5), (128, 64, 3), (64, 32, 3), (32, 1, 1)]),
            (
                "ddcgan",
                [
                    *[(2, 48, 3), (48, 48, 3), (96, 48, 3), (144, 48, 3), (192, 48, 3)],
                    *[(240, 240, 3), (240, 128, 3), (128, 64, 3), (64, 32, 3), (32, 1, 3)],
                ],
            ),
        ],
    )
    def test_they_are_what_the_papers_describe(self, name: str, widths: list[tuple[int, int, int]]) -> None:
        convolutions = [m for m in NETWORKS[name]().modules() if isinstance(m, torch.nn.Conv2d)]
        assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions] == widths

    def test_their_sizes(self) -> None:
        def parameters(network: torch.nn.Module) -> int:
            return sum(p.numel() for p in network.parameters())

        assert {name: parameters(network()) for name, network in NETWORKS.items()} == {
            "densefuse": 74_193,  # as published
            "fusiongan": 925_633,
            "ddcgan": 1_096_257,
        }

    @pytest.mark.parametrize("name", sorted(NETWORKS))
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 10)])
    def test_any_size_stays_and_lies_in_range(self, name: str, size: tuple[int, int]) -> None:
        torch.manual_seed(1)
        network = NETWORKS[name]().eval()
        with torch.no_grad():
            fused = network(torch.rand(2, 1, *size), torch.rand(2, 1, *size))
        assert fused.shape == (2, 1, *size) and float(fused.min()) >= 0 and float(fused.max()) <= 1

    def test_folding_the_norms_changes_nothing(self) -> None:
        torch.manual_seed(2)
        network = fusiongan.FusionGanNet()
        with torch.no_grad():
            for _ in range(3):  # statistics that are not those of the start
                network.inner(torch.rand(2, 1, 24, 24), torch.rand(2, 1, 24, 24))
            pair = torch.rand(2, 1, 1, 20, 26)
            expected = network.eval()(*pair)
            folded = network.folded()
            assert torch.allclose(folded(*pair), expected, atol=1e-5)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())

    def test_fusiongan_is_trained_on_what_it_does_within_the_border(self) -> None:
        network = fusiongan.FusionGanNet().eval()
        pair = torch.rand(2, 1, 1, 30, 34)
        with torch.no_grad():
            assert torch.allclose(trim(network(*pair), fusiongan.BORDER), network.inner(*pair), atol=1e-5)

    @pytest.mark.parametrize("l1_norm", [False, True])
    def test_densefuse_gives_identical_images_as_it_reconstructs_them(self, l1_norm: bool) -> None:
        network = densefuse.DenseFuseNet(l1_norm=l1_norm).eval()
        image = torch.rand(1, 1, 30, 30)
        with torch.no_grad():
            expected = network.decode(network.encode(image)).clamp(0, 1)
            # up to the border, where zeros are outside of the image when it is not extended
            inside = [trim(made, densefuse.BORDER) for made in (network(image, image), expected)]
            assert torch.allclose(*inside, atol=1e-5)

    @pytest.mark.parametrize("name", sorted(NETWORKS))
    def test_edges_of_flat_images_are_flat(self, name: str) -> None:
        flat = torch.full((1, 1, 12, 9), 0.7)
        with torch.no_grad():
            fused = NETWORKS[name]().eval()(flat, flat)
        assert float(fused.max() - fused.min()) < 1e-5

    def test_the_l1_norm_follows_the_stronger_features(self) -> None:
        strong, weak = torch.full((1, 64, 8, 8), 3.0), torch.full((1, 64, 8, 8), 1.0)
        assert torch.allclose(densefuse.fuse_by_l1_norm(strong, weak), torch.full_like(strong, 0.75 * 3 + 0.25))
        silent = torch.zeros_like(strong)
        assert torch.equal(densefuse.fuse_by_l1_norm(silent, silent), silent)


class TestLosses:
    def test_the_laplacian_by_hand(self) -> None:
        image = torch.tensor([[0.0, 1, 0], [2, 5, 3], [0, 4, 0]])[None, None]
        assert fusiongan.laplacian(image).tolist() == [[[[1 + 2 + 3 + 4 - 20.0]]]]

    def test_the_content_losses_by_hand(self) -> None:
        ramp = (torch.arange(8.0) / 10).expand(1, 1, 8, 8)
        # the infrared's level is a quarter below: (2 * 0.25)^2 on [-1, 1]; the visible is met
        for module in (fusiongan, ddcgan):
            losses = module.content_losses(ramp, ramp - 0.25, ramp)
            assert float(losses["intensity"]) == pytest.approx(0.25)
            assert float(losses["gradient"]) == pytest.approx(0, abs=1e-6)
        # steps of 0.1 along x that the visible has not: 0.2 on [-1, 1]
        flat = torch.zeros_like(ramp)
        assert float(ddcgan.content_losses(ramp, ramp, flat)["gradient"]) == pytest.approx(0.2)

    def test_critics_are_paid_for_telling_apart_and_generators_for_deceiving(self) -> None:
        def noise() -> torch.Generator:
            return torch.Generator().manual_seed(0)

        real, made = torch.ones(64, 1), torch.full((64, 1), 0.1)
        assert float(fusiongan.critic_loss(real, made, noise())) < float(fusiongan.critic_loss(made, real, noise()))
        assert float(fusiongan.deceiving_loss(real, noise())) < float(fusiongan.deceiving_loss(made, noise()))
        assert float(ddcgan.critic_loss(5 * real, -5 * real)) < 0.1 < float(ddcgan.critic_loss(-5 * real, 5 * real))
        assert float(ddcgan.deceiving_loss(5 * real)) < 0.1 < float(ddcgan.deceiving_loss(-5 * real))

    @pytest.mark.parametrize("patch_px", [20, 33])
    def test_critics_score_patches_of_their_size(self, patch_px: int) -> None:
        assert fusiongan.Critic(patch_px)(torch.rand(3, 1, patch_px, patch_px)).shape == (3, 1)


class TestLoop:
    @pytest.mark.parametrize("name", sorted(NETWORKS))
    def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(self, name: str, tmp_path: Path) -> None:
        train(name, tmp_path / "whole")
        train(name, tmp_path / "parts", stop_after=2)
        train(name, tmp_path / "parts", resume=True)
        whole, parts = (read_tensors(tmp_path / folder / CHECKPOINT) for folder in ("whole", "parts"))
        assert whole[1] == parts[1] and whole[0].keys() == parts[0].keys()
        assert all(torch.equal(whole[0][key], parts[0][key]) for key in whole[0])

    @pytest.mark.parametrize("name", ["fusiongan", "ddcgan"])
    def test_both_sides_learn(self, name: str, tmp_path: Path) -> None:
        config = tiny(name)
        before = {
            f"{part}/{key}": value.clone()
            for part, module in self._parts(config).items()
            for key, value in module.state_dict().items()
        }
        train(name, tmp_path)
        after, _ = read_tensors(tmp_path / CHECKPOINT)
        for key, value in before.items():
            if key.endswith("weight"):
                assert not torch.equal(after[key], value), key

    @staticmethod
    def _parts(config: BaselineConfig) -> dict[str, torch.nn.Module]:
        torch.manual_seed(config.seed)
        recipe = make_recipe(config)
        return {"generator": recipe.generator, "critics": recipe.critics}

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        _, losses = train("densefuse", tmp_path, steps=30, learning_rate=3e-3)
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])

    def test_a_run_is_not_overwritten_nor_resumed_otherwise(self, tmp_path: Path) -> None:
        train("densefuse", tmp_path, stop_after=1)
        with pytest.raises(OutputExistsError, match="--resume"):
            train("densefuse", tmp_path)
        with pytest.raises(UsageError, match=r"ssim was 1\.0, is 2\.0"):
            train("densefuse", tmp_path, resume=True, ssim=2.0)
        with pytest.raises(UsageError, match="nothing to resume"):
            train("densefuse", tmp_path / "absent", resume=True)

    def test_a_diverged_run_stops_with_a_reason(self, tmp_path: Path) -> None:
        config = tiny("ddcgan")
        recipe = make_recipe(config)
        with torch.no_grad():
            next(recipe.generator.parameters()).fill_(float("nan"))
        trainer = BaselineTrainer(config, recipe, made_pairs(), made_pairs(1), tmp_path)
        with pytest.raises(EngineError, match="lower learning_rate"):
            trainer.run(threading.Event())


class TestData:
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_tno_is_refused(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / "tno" / "pairs"
        folder.mkdir(parents=True)
        (tmp_path / "innocent").symlink_to(folder)
        for path in (folder, tmp_path / "innocent"):
            with pytest.raises(UsageError, match="test set"):
                baseline_session.train_baseline(name, tiny(name), path, tmp_path / "out")
            with pytest.raises(UsageError, match="test set"):
                load_photographs(path, 800)

    def test_a_photograph_inside_tno_is_refused_wherever_the_search_started(self, tmp_path: Path) -> None:
        (tmp_path / "tno").mkdir()
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / "tno" / name), np.zeros((8, 8), np.uint8))
        with pytest.raises(UsageError, match="test set"):
            load_photographs(tmp_path, 800)

    def test_photographs_are_found_below_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        cv2.imwrite(str(tmp_path / "b.png"), np.full((40, 60, 3), 90, np.uint8))
        with pytest.raises(SourceError, match="1 photographs"):
            load_photographs(tmp_path, 800)
        cv2.imwrite(str(tmp_path / "more" / "a.PNG"), np.zeros((20, 30), np.uint8))
        assert [p.name for p in load_photographs(tmp_path, 800)] == ["b.png", "a.PNG"]


class TestConfig:
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_the_shipped_configurations_are_complete(self, name: str) -> None:
        from ruamel.yaml import YAML

        config = load_baseline_config(name, "default")
        written = YAML(typ="safe").load(
            (Path(baseline_session.__file__).parent / "configs" / f"{name}.yaml").read_text()
        )
        assert written == config.model_dump()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("content: 1\ngradiant: 3", "gradiant: unknown key: did you mean 'gradient'"),
            ("steps: 0", "steps: Input should be greater than 0"),
            ("[1, 2]", "document"),
        ],
    )
    def test_mistakes_name_file_and_key(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_baseline_config("fusiongan", str(path))
        assert str(path) in str(caught.value) and message in str(caught.value)


class TestExport:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(NETWORKS))
    def test_the_exported_graph_agrees_with_torch(self, name: str, tmp_path: Path) -> None:
        from fusepipe.engines.backends.openvino import OpenVinoFuser
        from fusepipe.engines.cache import CompileCache

        torch.manual_seed(3)
        network = NETWORKS[name]()
        paths = export_baseline(name, network, tmp_path)
        assert {p.name for p in paths} == {p.name for p in tmp_path.iterdir()}
        stored = sum(p.numel() for p in network.parameters()) * 2
        rng = np.random.default_rng(0)
        for path in paths:
            assert path.stat().st_size < 1.1 * stored + 40_000  # half precision
            if path.stem == "densefuse-l1":
                network.l1_norm = True
            cache = CompileCache(tmp_path / "cache")
            with OpenVinoFuser(name, path.read_bytes(), "fp32", cache=cache) as fuser:
                for height, width in ((32, 48), (1, 1), (27, 33)):
                    infrared, visible = rng.integers(0, 256, (2, height, width), np.uint8)
                    with torch.no_grad():
                        inputs = (torch.from_numpy(image)[None, None] for image in (infrared, visible))
                        expected = ByteStudent(deployable(network))(*inputs)[0, 0].numpy()
                    difference = np.abs(fuser.fuse(infrared, visible).astype(int) - expected)
                    # weights of half precision
                    assert difference.max() <= 2


class TestShippedWeights:
    WEIGHTS = Path(__file__).parents[2] / "engines" / "weights"

    @pytest.mark.parametrize("model", ["densefuse", "densefuse-l1", "fusiongan", "ddcgan"])
    def test_graph_and_card_are_there(self, model: str) -> None:
        import onnx

        from fusepipe.core.models import MODELS
        from fusepipe.core.models import NETWORKS as KNOWN

        assert model in MODELS and model in KNOWN
        path = self.WEIGHTS / f"{model}.onnx"
        assert path.stat().st_size < 4_000_000
        graph = onnx.load(str(path))
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        assert metadata["fusepipe.model"] == model and metadata["fusepipe.multiple"] == "1"
        tensors = [*graph.graph.input, *graph.graph.output]
        assert [t.name for t in tensors] == ["infrared", "visible", "fused"]
        assert {t.type.tensor_type.elem_type for t in tensors} == {onnx.TensorProto.UINT8}
        card = (self.WEIGHTS / f"{model.removesuffix('-l1')}.md").read_text(encoding="utf-8")
        assert "our own short training" in card and "not the authors' weights" in card

    @pytest.mark.parametrize("model", ["densefuse", "densefuse-l1", "fusiongan", "ddcgan"])
    def test_they_have_learnt_to_fuse(self, model: str) -> None:
        from fusepipe.engines.load import load_model

        y, x = np.mgrid[0:64, 0:64]
        infrared = (60 + 150 * np.exp(-((x - 40) ** 2 + (y - 30) ** 2) / 60)).astype(np.uint8)
        visible = (90 + 50 * np.sign(np.sin(x / 3))).astype(np.uint8)
        with load_model(model, precision="fp32") as fuser:
            fused = fuser.fuse(infrared, visible).astype(float)
        # the warm spot stands out of its surroundings, and the visible stripes are seen, not inverted
        assert fused[26:35, 36:45].mean() > fused[:, :20].mean() + 20
        stripes = np.corrcoef(fused[:20].mean(axis=0), visible[:20].mean(axis=0))[0, 1]
        assert stripes > 0.5


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Two made pairs in a data folder, and a split that names them."""
        for pair, stem in zip(made_pairs(2), ("a", "b"), strict=True):
            for band, image in (("ir", pair.infrared), ("vis", pair.visible)):
                folder = tmp_path / "data" / "made" / band
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{stem}.png"), image)
        monkeypatch.setattr(baseline_session, "read_split", lambda split: [("made", "a" if split == "train" else "b")])
        return tmp_path / "data"

    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(BASELINES))
    def test_it_trains_and_exports(self, name: str, data: Path, tmp_path: Path) -> None:
        config = tmp_path / "tiny.yaml"
        config.write_text("{steps: 2, batch: 2, crop_px: 20}")
        out = tmp_path / "out"
        arguments = [name, "--config", str(config), "--data", str(data), "--out", str(out), "--device", "cpu"]
        done = CliRunner().invoke(train_command.command, [*arguments, "--seed", "4", "--json"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["finished"] and report["seed"] == 4 and report["step"] == 2 and report["validation"]
        assert all(Path(path).is_file() for path in report["onnx"])
        again = CliRunner().invoke(train_command.command, [*arguments, "--seed", "4", "--resume"])
        assert again.exit_code == 0 and f"{name}.onnx" in again.stdout

    def test_a_stopped_run_says_how_to_go_on(self, tmp_path: Path) -> None:
        run = training.Run("default", tmp_path, tmp_path / "out", "cpu", resume=False, as_json=False)
        with pytest.raises(Interrupted, match=r"step 3; go on with --resume --out .*out"):
            run.show({"finished": False, "step": 3})
