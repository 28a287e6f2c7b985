"""The paper's network against its description: operators by hand, parts, readings, sizes, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.training import require_training

torch = require_training()

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.evaluation.image_sets import read_luma
from fusepipe.train.configs.mfe import NetworkParts
from fusepipe.train.data.crops import as_input
from fusepipe.train.describe import describe_models
from fusepipe.train.export import export_mfe
from fusepipe.train.networks.byte_fusion import ByteFusion
from fusepipe.train.networks.mfe import Attention, MfeNet, edge_map, fuse, levels, pulled_back
from fusepipe.train.weights import initial_mfe, load_mfe, save_mfe

WEIGHTS = Path(__file__).parents[2] / "engines" / "weights" / "mfe.safetensors"


def fresh(**parts: object) -> MfeNet:
    torch.manual_seed(4)
    return MfeNet(**parts).eval()  # type: ignore[arg-type]


def pair(height: int = 40, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    infrared, visible = torch.rand(2, 1, 1, height, width)
    return infrared, visible


def test_the_attention_distinguishes_edges_from_the_first_step_on() -> None:
    """Of images whose edges are hundredths, as photographs' are; a start that fades them gives 0.5 +- 1e-4."""
    smooth = torch.nn.functional.avg_pool2d(torch.stack(pair(160, 160))[:, 0], 9, stride=1)
    infrared, visible = smooth[:1], smooth[1:]
    assert edge_map(smooth).mean() < 0.05
    with torch.no_grad():
        weights = fresh().weights(infrared, visible)
    assert weights.max() - weights.min() > 0.1


class TestEdgeMap:
    def test_one_bright_pixel(self) -> None:
        image = torch.zeros(1, 1, 5, 5)
        image[..., 2, 2] = 1
        # Eq. 1: the pixel itself sees right and below (sqrt 2), its left and upper neighbours see it (1)
        root = 2**0.5
        # Eq. 2: each then takes the largest of itself, right, below and below right
        expected = torch.tensor(
            [
                [0.0, 1, 1, 0, 0],
                [1, root, root, 0, 0],
                [1, root, root, 0, 0],
                [0, 0, 0, 0, 0],
                [0, 0, 0, 0, 0],
            ]
        )
        assert torch.allclose(edge_map(image)[0, 0], expected)

    def test_the_last_row_and_column_are_replicated(self) -> None:
        ramp = torch.tensor([[0.0, 3.0], [4.0, 7.0]])[None, None]
        # (0, 0) sees 3 and 4; the last column sees only below, the last row only right, the corner nothing
        assert edge_map(ramp)[0, 0].tolist() == [[5.0, 4.0], [3.0, 0.0]]

    def test_flat_images_and_single_pixels_have_no_edges(self) -> None:
        assert not edge_map(torch.full((1, 1, 6, 7), 0.3)).any()
        assert edge_map(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)

    def test_every_second_pixel_is_the_maximum_of_its_block(self) -> None:
        image = pair()[0]
        across = torch.nn.functional.pad(image.diff(dim=-1), (0, 1)) ** 2
        down = torch.nn.functional.pad(image.diff(dim=-2), (0, 0, 0, 1)) ** 2
        expected = torch.nn.functional.max_pool2d((across + down).sqrt(), 2)
        assert torch.equal(edge_map(image)[..., ::2, ::2], expected)


class TestNetwork:
    @pytest.mark.parametrize("parts", [{}, {"dense": False}, {"attention": False}, {"skips": False}])
    def test_identical_images_give_the_auto_encoder_exactly(self, parts: dict[str, bool]) -> None:
        network, (image, _) = fresh(**parts), pair()
        with torch.no_grad():
            assert torch.equal(network.unlimited(image, image), network.autoencoder(image))

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (13, 10), (31, 33)])
    @pytest.mark.parametrize("reading", ["sources", "channels"])
    def test_any_size_stays_and_lies_in_range(self, size: tuple[int, int], reading: str) -> None:
        network = fresh(reading=reading)
        with torch.no_grad():
            network.reconstruction.head.weight.mul_(50)
            fused = network(*pair(*size))
        assert fused.shape == (1, 1, *size) and float(fused.min()) >= 0 and float(fused.max()) <= 1

    def test_the_levels_are_those_of_the_paths(self) -> None:
        network, (image, _) = fresh(), pair()
        with torch.no_grad():
            stem = torch.relu(network.extractor.stem(image))
            deep, middle, shallow = levels(network.extractor(image))
            paths = [torch.cat(path(stem), dim=1) for path in network.extractor.paths]
        assert [level.shape[1] for level in (deep, middle, shallow)] == [64, 48, 32]
        for level in (deep, middle, shallow):
            summed = paths[0] + paths[1] + paths[2]
            assert torch.equal(level, summed[:, : level.shape[1]])

    @pytest.mark.parametrize(("dilation", "reach"), [(1, 3), (2, 5), (3, 7)])
    def test_receptive_fields_of_the_first_layers(self, dilation: int, reach: int) -> None:
        image = torch.zeros(1, 16, 15, 15, requires_grad=True)
        layer = fresh().extractor.paths[dilation - 1].layers[0]  # type: ignore[index, union-attr]
        layer(image)[0, :, 7, 7].sum().backward()
        assert image.grad is not None
        rows = image.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
        assert int(rows.max() - rows.min()) + 1 == reach

    def test_each_switch_takes_out_its_part_only(self) -> None:
        found = {
            name: {part.name: part for part in describe_models(parts, 48, 64) if part.model == "mfe"}
            for name, parts in {
                "full": NetworkParts(),
                "D": NetworkParts(dense=False),
                "A": NetworkParts(attention=False),
                "S": NetworkParts(skips=False),
            }.items()
        }
        full = found["full"]
        assert full["extractor"].macs_per_px == 2 * (144 + 3 * 144 * (16 + 32 + 48))
        assert full["whole"].macs_per_px == 259_792 and full["whole"].parameters == 316_833
        assert found["D"]["extractor"].parameters < full["extractor"].parameters
        assert found["D"]["extractor"].shape == full["extractor"].shape == (1, 64, 48, 64)
        assert "attention" not in found["A"] and found["A"]["extractor"] == full["extractor"]
        # additions cost no parameters
        assert found["S"]["whole"].parameters == full["whole"].parameters

    def test_without_skips_nothing_is_added(self) -> None:
        with_skips, without, (image, _) = fresh(), fresh(skips=False), pair()
        with torch.no_grad():
            nothing = torch.zeros(1, 3)
            plain = with_skips.autoencoder(image, nothing)
            assert torch.equal(plain, without.autoencoder(image))
            assert not torch.equal(plain, with_skips.autoencoder(image))


class TestReadings:
    def test_the_softmax_over_sources_by_hand(self) -> None:
        features = torch.full((1, 64, 4, 4), 2.0), torch.full((1, 64, 4, 4), 6.0)
        maps = torch.full((1, 64, 2, 2), float(np.log(3))), torch.zeros(1, 64, 2, 2)
        # exp(log 3) : exp(0) = 3 : 1
        assert torch.allclose(fuse(features, maps, "sources"), torch.full((1, 64, 4, 4), 0.75 * 2 + 0.25 * 6))

    def test_the_softmax_over_channels_by_hand(self) -> None:
        features = torch.zeros(1, 64, 4, 4), torch.zeros(1, 64, 4, 4)
        features[0][:, 0] = float(np.log(5)) / 2
        maps = torch.full((1, 64, 2, 2), 2.0), torch.ones(1, 64, 2, 2)
        fused = fuse(features, maps, "channels")
        # exp(log 5) in one channel, exp(0) in 63
        assert torch.allclose(fused[:, 0], torch.full((1, 4, 4), 5 / 68)) and torch.allclose(
            fused.sum(dim=1), torch.ones(1, 4, 4)
        )

    def test_weights_are_shares_that_add_up(self) -> None:
        network, (infrared, visible) = fresh(), pair(31, 33)
        with torch.no_grad():
            one, other = network.weights(infrared, visible), network.weights(visible, infrared)
        assert one.shape == (1, 64, 31, 33) and torch.allclose(one + other, torch.ones_like(one), atol=1e-6)
        assert float(one.min()) > 0 and float(one.max()) < 1


class _Constant(Attention):
    """The attention that looks at nothing: everywhere its mean on the image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = super().forward(image)
        return maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)


def effects(network: MfeNet, infrared: torch.Tensor, visible: torch.Tensor) -> dict[str, float]:
    """Mean change of the fused image, relative to its deviation, without one of the parts."""
    with torch.no_grad():
        fused = network.unlimited(infrared, visible)
        features = network.features(infrared, visible)
        deep, middle, shallow = levels(features)
        shallow_only = network.reconstruction(torch.zeros_like(deep), middle, shallow)
        changed = {"deep": pulled_back(shallow_only, infrared, visible, network.overshoot)}
        if network.attention is not None:
            constant = MfeNet(overshoot=network.overshoot)
            constant.attention = _Constant()
            constant.load_state_dict(network.state_dict())
            changed["attention"] = constant.eval().unlimited(infrared, visible)
    return {name: float((image - fused).abs().mean() / fused.std()) for name, image in changed.items()}


class TestPartsMatter:
    """The trap of the released weights of the paper: an attention that is constant, a deep path without effect."""

    def test_on_new_weights(self, data_dir: Path) -> None:
        for name, effect in effects(fresh(), *self._pairs(data_dir)[0]).items():
            assert effect > 1e-4, name

    def test_on_the_shipped_weights(self, data_dir: Path) -> None:
        if not WEIGHTS.exists():
            pytest.skip("mfe's weights do not ship yet")
        network = load_mfe(WEIGHTS)
        found = [effects(network, *images) for images in self._pairs(data_dir)]
        for name in ("deep", "attention"):
            assert np.mean([effect[name] for effect in found]) > 0.02, found

    @staticmethod
    def _pairs(data: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
        folder = data / "tno" / "pairs"
        names = sorted(path.name for path in (folder / "ir").iterdir())[:3]
        images = [(read_luma(folder / "ir" / n, "infrared"), read_luma(folder / "vis" / n)) for n in names]
        return [(as_input(ir[:160, :200]), as_input(vis[:160, :200])) for ir, vis in images]


class TestPulledBack:
    def test_what_lies_between_the_sources_stays_and_the_rest_is_shortened(self) -> None:
        infrared, visible = torch.full((1, 1, 1, 5), 0.75), torch.full((1, 1, 1, 5), 0.25)
        fused = torch.tensor([[[[-0.25, 0.25, 0.5, 0.75, 1.25]]]])
        for images in ((infrared, visible), (visible, infrared)):
            out = pulled_back(fused, *images, 0.5)
            assert torch.equal(out, torch.tensor([[[[0.0, 0.25, 0.5, 0.75, 1.0]]]]))
        assert torch.equal(pulled_back(fused, infrared, visible, 1.0), fused)

    def test_equal_images_come_back_where_nothing_of_it_is_left(self) -> None:
        image = pair()[0]
        with torch.no_grad():
            assert torch.equal(fresh(overshoot=0.0)(image, image), image)


class TestWeights:
    def test_they_come_back_with_their_parts(self, tmp_path: Path) -> None:
        network = fresh(dense=False, skips=False, reading="channels", overshoot=0.25)
        save_mfe(tmp_path / "w.safetensors", network, {"seed": "4"})
        again = load_mfe(tmp_path / "w.safetensors")
        assert (again.dense, again.skips, again.reading, again.overshoot) == (False, False, "channels", 0.25)
        with torch.no_grad():
            assert torch.equal(again(*pair()), network(*pair()))

    def test_stage_2_begins_with_the_weights_of_stage_1(self, tmp_path: Path) -> None:
        start = fresh(attention=False)
        save_mfe(tmp_path / "w.safetensors", start, {})
        network = initial_mfe(tmp_path / "w.safetensors", NetworkParts())
        image = pair()[0]
        with torch.no_grad():
            assert torch.equal(network.unlimited(image, image), start.autoencoder(image))
        with pytest.raises(UsageError, match="of the same configuration"):
            initial_mfe(tmp_path / "w.safetensors", NetworkParts(dense=False))

    def test_other_weights_are_refused(self) -> None:
        with pytest.raises(EngineError, match="not weights of mfe"):
            load_mfe(WEIGHTS.with_name("stream.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{}, {"attention": False}, {"reading": "channels"}, {"overshoot": 0.3}])
def test_the_exported_graph_agrees_with_torch(parts: dict[str, object], tmp_path: Path) -> None:
    from fusepipe.engines.backends.openvino.fuser import OpenVinoFuser
    from fusepipe.engines.cache import CompileCache

    network = fresh(**parts)
    export_mfe(network, tmp_path / "mfe.onnx")
    rng = np.random.default_rng(0)
    cache = CompileCache(tmp_path / "cache")
    with OpenVinoFuser("mfe", (tmp_path / "mfe.onnx").read_bytes(), "fp32", cache=cache) as fuser:
        for height, width in ((32, 48), (1, 1), (27, 33), (2, 3), (40, 37)):
            infrared, visible = rng.integers(0, 256, (2, height, width), np.uint8)
            with torch.no_grad():
                inputs = (torch.from_numpy(image)[None, None] for image in (infrared, visible))
                expected = ByteFusion(network)(*inputs)[0, 0].numpy()
            difference = np.abs(fuser.fuse(infrared, visible).astype(int) - expected)
            # sums in another order may round the other way at .5
            assert difference.max() <= 1 and (difference > 0).mean() < 0.005, (height, width)
