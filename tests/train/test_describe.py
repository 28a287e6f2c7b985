"""``fusepipe train describe``: parts, shapes and costs of the networks."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from helpers.training import macs_per_pixel, require_training

require_training()

from fusepipe.commands.train import command
from fusepipe.train.configs.mfe import NetworkParts
from fusepipe.train.describe import describe_models
from fusepipe.train.networks.pyramid import PyramidNet


def test_it_prints_each_part() -> None:
    done = CliRunner().invoke(command, ["describe", "--size", "65x33"])
    assert done.exit_code == 0, done.output
    assert "1x64x17x33" in done.output  # attention at half resolution, rounded up
    assert "316,833" in done.output


@pytest.mark.parametrize(("student", "levels"), [("stream", 3), ("stream-hq", 2)])
def test_it_counts_the_layers_of_the_students(student: str, levels: int) -> None:
    parts = {p.name: p for p in describe_models(NetworkParts(), 480, 640) if p.model == student}
    network = PyramidNet(48, levels)
    whole = parts.pop("whole")
    assert whole.macs_per_px == pytest.approx(macs_per_pixel(network)) and whole.shape == (1, 1, 480, 640)
    assert sum(part.macs_per_px for part in parts.values()) == pytest.approx(whole.macs_per_px)
    assert whole.parameters == sum(p.numel() for p in network.parameters())
    assert parts["encoder 1"].calls == 2 and parts["head"].shape == (
        1,
        12 + 2 * levels,
        *(side >> (levels + 1) for side in (480, 640)),
    )


def test_an_invalid_size_is_refused() -> None:
    done = CliRunner().invoke(command, ["describe", "--size", "640"])
    assert done.exit_code == 2 and "WIDTHxHEIGHT" in done.output
