"""Configurations and weights files of the students."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.training import macs_per_pixel, require_training

from fusepipe.core.errors import ConfigError, EngineError, UsageError

torch = require_training()

from fusepipe.train.configs.student import Ramp, StudentConfig, load_student_config
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.networks.pyramid import PyramidNet
from fusepipe.train.tasks.student import initial_path, new_student
from fusepipe.train.tensors import read_tensors, write_tensors
from fusepipe.train.weights import initial_student, load_student, save_student, student_form


def network(levels: int = 3) -> PyramidNet:
    torch.manual_seed(2)
    return PyramidNet(16, levels).eval()


class TestWeights:
    def test_a_file_says_which_form_it_has(self, tmp_path: Path) -> None:
        saved = network()
        save_student(tmp_path / "w.safetensors", saved, {"seed": "2"})
        found = load_student(tmp_path / "w.safetensors")
        assert student_form(found) == student_form(saved) and not found.training
        assert all(torch.equal(value, saved.state_dict()[name]) for name, value in found.state_dict().items())

    def test_weights_of_another_network_are_refused_in_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"
        write_tensors(path, {}, {"model": "stream", "channels": "16"})
        with pytest.raises(EngineError, match=r"w\.safetensors: .* student of version 0\.1, .*retrain it$"):
            load_student(path)
        write_tensors(path, {}, {"model": "mfe"})
        with pytest.raises(EngineError, match="not weights of a student"):
            load_student(path)

    def test_a_start_may_have_more_levels(self, tmp_path: Path) -> None:
        path, given = tmp_path / "w.safetensors", network()
        save_student(path, given, {})
        begun = initial_student(path, student_form(network(2)))
        assert student_form(begun) == student_form(network(2)) and begun.training
        images = torch.rand(2, 1, 1, 16, 24)
        with torch.no_grad():
            one, other = (net.coarse(*images) for net in (given, begun))
        assert torch.equal(one[0], other[0]), "the coarse image is that of the same layers"
        for more, fewer in zip(one[1:], other[1:], strict=True):
            assert torch.allclose(more[:, :2], fewer, atol=1e-6)

    def test_a_start_of_another_form_is_refused(self, tmp_path: Path) -> None:
        save_student(tmp_path / "w.safetensors", network(2), {})
        with pytest.raises(UsageError, match=r"initial: .*safetensors has .*levels.: .2.*asks for .*levels.: .3"):
            initial_student(tmp_path / "w.safetensors", student_form(network(3)))

    def test_the_students_keep_their_budgets(self) -> None:
        for name, most in (("default", 650), ("stream-first", 650), ("stream-hq", 2600)):
            config = load_student_config(name)
            form = (config.channels, config.levels, config.encoder_layers, config.decoder_layers)
            assert macs_per_pixel(PyramidNet(*form)) <= most


class TestConfig:
    def test_the_first_stage_is_the_models_defaults(self) -> None:
        assert load_student_config("stream-first") == StudentConfig()

    def test_the_second_stage_starts_from_the_committed_weights_of_the_first(self) -> None:
        first, second = map(load_student_config, ("stream-first", "default"))
        form = {"channels", "levels", "encoder_layers", "decoder_layers", "sets"}
        assert first.model_dump(include=form) == second.model_dump(include=form)
        assert second.initial == "stream-first" and second.ranking > 0
        begun, other = (new_student(second, start=start) for start in (True, False))
        assert isinstance(begun, PyramidNet) and isinstance(other, PyramidNet)
        assert not torch.equal(begun.head.weight, other.head.weight)

    def test_the_last_stage_of_mfe_starts_from_the_committed_weights_of_those_before(self) -> None:
        config = load_student_config("mfe")
        begun = new_student(config, start=False)
        assert isinstance(begun, MfeNet) and begun.training and config.ranking > 0
        committed = read_tensors(initial_path("mfe-first"))[0]
        assert all(torch.equal(value, committed[name]) for name, value in begun.state_dict().items())

    def test_the_larger_student_has_one_level_less_and_starts_from_the_smaller(self) -> None:
        small, large = map(load_student_config, ("stream-first", "stream-hq"))
        form = {"channels", "encoder_layers", "decoder_layers", "sets"}
        assert small.model_dump(include=form) == large.model_dump(include=form)
        assert (large.model, large.levels, large.initial) == ("stream-hq", small.levels - 1, "stream-first")

    def test_a_ramp_moves_from_start_to_end(self) -> None:
        assert [Ramp(start=20, end=10).at(part) for part in (0, 0.5, 1)] == [20, 15, 10]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("step: 3", "step: unknown key: did you mean 'steps'"),
            ("losses: {gradent: 1}", "losses.gradent: unknown key: did you mean 'gradient'"),
            ("teacher: {start: 3}", "teacher.end: Field required"),
            ("forms: {full: 0, half: 0, variant: 0}", "forms: Value error, give at least one form a weight"),
            ("sensors: {jpg: 0.1}", "sensors.jpg: unknown key: did you mean 'jpeg'"),
            ("sets: {}", "sets: Dictionary should have at least 1 item"),
            ("crop_px: 32", "crop_px: Input should be greater than or equal to 64"),
            ("steps: 0", "steps: Input should be greater than 0"),
            ("[1, 2]", "document"),
            ("steps: [", "not valid YAML"),
            ("model: mfe", "mfe needs initial weights: mfe-first, mfe or a file"),
            ("precision: fp16", "precision: Input should be 'fp32' or 'bf16'"),
        ],
    )
    def test_mistakes_name_file_and_key(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_student_config(str(path))
        assert str(path) in str(caught.value) and message in str(caught.value)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="give 'default', 'stream-first', 'stream-hq', 'mfe' or a YAML file"):
            load_student_config(str(tmp_path / "absent.yaml"))
