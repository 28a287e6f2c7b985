"""The learned baselines: networks against their description, losses, export, the shipped graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.training import require_training

torch = require_training()

from fusepipe.train.export import export_baseline, inference_form
from fusepipe.train.losses import ddcgan as ddcgan_losses
from fusepipe.train.losses import fusiongan as fusiongan_losses
from fusepipe.train.networks import ddcgan, densefuse, fusiongan
from fusepipe.train.networks.borders import trim
from fusepipe.train.networks.byte_fusion import ByteFusion
from fusepipe.train.networks.discriminator import Discriminator

NETWORKS = {"densefuse": densefuse.DenseFuseNet, "fusiongan": fusiongan.FusionGanNet, "ddcgan": ddcgan.DdcGanNet}


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
        assert fusiongan_losses.laplacian(image).tolist() == [[[[1 + 2 + 3 + 4 - 20.0]]]]

    def test_the_content_losses_by_hand(self) -> None:
        ramp = (torch.arange(8.0) / 10).expand(1, 1, 8, 8)
        # the infrared's level is a quarter below: (2 * 0.25)^2 on [-1, 1]; the visible is met
        for module in (fusiongan_losses, ddcgan_losses):
            losses = module.content_losses(ramp, ramp - 0.25, ramp)
            assert float(losses["intensity"]) == pytest.approx(0.25)
            assert float(losses["gradient"]) == pytest.approx(0, abs=1e-6)
        # steps of 0.1 along x that the visible has not: 0.2 on [-1, 1]
        flat = torch.zeros_like(ramp)
        assert float(ddcgan_losses.content_losses(ramp, ramp, flat)["gradient"]) == pytest.approx(0.2)

    def test_critics_are_rewarded_for_discriminating_and_generators_for_deceiving(self) -> None:
        def noise() -> torch.Generator:
            return torch.Generator().manual_seed(0)

        real, made = torch.ones(64, 1), torch.full((64, 1), 0.1)
        assert float(fusiongan_losses.critic_loss(real, made, noise())) < float(
            fusiongan_losses.critic_loss(made, real, noise())
        )
        assert float(fusiongan_losses.adversarial_loss(real, noise())) < float(
            fusiongan_losses.adversarial_loss(made, noise())
        )
        assert (
            float(ddcgan_losses.critic_loss(5 * real, -5 * real))
            < 0.1
            < float(ddcgan_losses.critic_loss(-5 * real, 5 * real))
        )
        assert float(ddcgan_losses.adversarial_loss(5 * real)) < 0.1 < float(ddcgan_losses.adversarial_loss(-5 * real))

    @pytest.mark.parametrize("patch_px", [20, 33])
    def test_critics_score_patches_of_their_size(self, patch_px: int) -> None:
        assert Discriminator(patch_px, batch_norm=True, centred=True)(torch.rand(3, 1, patch_px, patch_px)).shape == (
            3,
            1,
        )


class TestExport:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", sorted(NETWORKS))
    def test_the_exported_graph_agrees_with_torch(self, name: str, tmp_path: Path) -> None:
        from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser
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
                        expected = ByteFusion(inference_form(network))(*inputs)[0, 0].numpy()
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
