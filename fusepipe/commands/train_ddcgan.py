"""``fusepipe train ddcgan``: a generator and an adversary for each source."""

from __future__ import annotations

from fusepipe.commands.console.training import PAIRS, baseline_command

command = baseline_command(
    "ddcgan", "Train the DDcGAN baseline.", "Train the DDcGAN baseline on registered pairs; export it.", PAIRS
)
