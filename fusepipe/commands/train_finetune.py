"""``fusepipe train finetune``: the last stage of the paper's network."""

from __future__ import annotations

from fusepipe.commands.console.training import fusion_command

command = fusion_command("finetune", "Train all of mfe on registered pairs.", "Train all of `mfe` on registered pairs.")
