"""``fusepipe train attention``: the second stage of the paper's network."""

from __future__ import annotations

from fusepipe.commands.console.training import fusion_command

command = fusion_command(
    "attention", "Train the attention of mfe.", "Train the attention of `mfe` on registered pairs, the rest frozen."
)
