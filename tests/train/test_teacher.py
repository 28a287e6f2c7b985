"""Distillation: the teacher of a student, and the distance to its images."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.training import require_training

from fusepipe.core.errors import UsageError

torch = require_training()

from fusepipe.train.losses.distillation import distillation_loss
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.tasks.teacher import Teacher
from fusepipe.train.weights import save_mfe


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
