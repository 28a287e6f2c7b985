"""What a live rig dropped because a stage was too slow, in words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusepipe.core.text import counted

_BEFORE = {"paired": "registration", "registered": "fusion"}  # the stage that empties the mailbox
_BY_DESIGN = "drift"  # the drift watch takes what it has time for


def dropped_texts(dropped: Mapping[str, int], sinks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Such as ``50 pairs before fusion``, from counts by mailbox; ``sinks`` are those of a report, in their order."""
    texts = []
    for mailbox, count in dropped.items():
        if mailbox == _BY_DESIGN:
            continue
        if mailbox in _BEFORE:
            texts.append(f"{counted(count, 'pair')} before {_BEFORE[mailbox]}")
        elif mailbox.startswith("sink-"):
            sink = sinks[int(mailbox.removeprefix("sink-")) - 1]
            texts.append(f"{counted(count, 'frame')} before {sink['sink']}")
        else:
            texts.append(f"{counted(count, f'{mailbox} frame')} before pairing")
    return texts
