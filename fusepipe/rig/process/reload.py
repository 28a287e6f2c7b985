"""Reload on SIGHUP: reads the rig file again and applies it to the rigs of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fusepipe.core.errors import FusepipeError, message_lines, printable

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.process.managed_rig import ManagedRig

log = logging.getLogger(__name__)

ReadRigs = Callable[[], "Sequence[Rig]"]


def reload(managed: Sequence[ManagedRig], read: ReadRigs) -> None:
    """Reads the rigs again and applies them; an invalid file changes nothing."""
    try:
        rigs = {rig.name: rig for rig in read()}
    except FusepipeError as error:
        for text in message_lines(error):
            log.error("reload: %s", text)
        log.error("reload: the file is invalid; no rig was changed")
        return
    lines = []
    for one in managed:
        rig = rigs.pop(one.name, None)
        if rig is None:
            lines.append(f"{one.name}: no longer in the file; keeps its old settings until a restart")
        else:
            lines += one.reload(rig)
    lines += [f"{name}: not running: needs a restart" for name in rigs]
    for text in lines or ["no changes"]:
        log.info("reload: %s", printable(text))
