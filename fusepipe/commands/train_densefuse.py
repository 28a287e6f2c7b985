"""``fusepipe train densefuse``: an auto-encoder of photographs whose features are fused."""

from __future__ import annotations

from fusepipe.commands.console.training import PHOTOGRAPHS, baseline_command

command = baseline_command(
    "densefuse",
    "Train the DenseFuse baseline.",
    "Train the DenseFuse baseline (auto-encoder) on photographs; export both its rules.",
    PHOTOGRAPHS,
)
