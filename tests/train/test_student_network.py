"""The students: network, branches, the second look, configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.training import require_training

from fusepipe.core.errors import ConfigError, UsageError

torch = require_training()

from fusepipe.train.configs.student import StudentConfig, load_student_config
from fusepipe.train.losses.steadiness import SecondLook, steadiness
from fusepipe.train.networks.branches import branch, folded
from fusepipe.train.networks.student import StudentNet, finish, macs_per_pixel


class TestNetwork:
    def test_it_is_small(self) -> None:
        assert macs_per_pixel(StudentNet()) <= 7000
        large = load_student_config("stream-hq")
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
        assert load_student_config("default") == StudentConfig()

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
            load_student_config(str(path))
        assert str(path) in str(caught.value) and message in str(caught.value)

    def test_a_teacher_and_its_weight_go_together(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        for text in ("distillation: 2", "teacher: some.safetensors"):
            path.write_text(text)
            with pytest.raises(ConfigError, match="give both or neither"):
                load_student_config(str(path))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="give 'default', 'stream-hq' or a YAML file"):
            load_student_config(str(tmp_path / "absent.yaml"))
