"""``fusepipe train fusiongan``: a generator and its adversary."""

from __future__ import annotations

from fusepipe.commands.console.training import PAIRS, baseline_command

command = baseline_command(
    "fusiongan", "Train the FusionGAN baseline.", "Train the FusionGAN baseline on registered pairs; export it.", PAIRS
)
