"""Reload on SIGHUP: reads the rig file again and applies it to the rigs of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fusepipe.core.errors import FusepipeError, message_lines, printable

if TYPE_CHECKING:
    from fusepipe.config.rig_folder import RigSelection
    from fusepipe.config.schema import Rig
    from fusepipe.rig.process.managed_rig import ManagedRig

log = logging.getLogger(__name__)

ReadRigs = Callable[[], "RigSelection"]


def reload(managed: Sequence[ManagedRig], read: ReadRigs) -> tuple[RigSelection, list[Rig]] | None:
    """Reads the rigs again and applies them; an invalid file changes nothing.

    Returns what was read, and the rigs of it that are not managed yet; ``None`` if nothing could be read.
    """
    try:
        selection = read()
    except FusepipeError as error:
        for text in message_lines(error):
            log.error("reload: %s", text)
        log.error("reload: the file is invalid; no rig was changed")
        return None
    rigs = {rig.name: rig for rig in selection.rigs}
    refused = {one.name for one in selection.refused}
    lines, removed = [], False
    for one in managed:
        rig = rigs.pop(one.name, None)
        if rig is not None:
            lines += one.reload(rig)
        elif one.name not in refused:
            removed = removed or one.running
            lines.append(f"{one.name}: no longer in the file; keeps its old settings until a restart")
    # a rig with another name now has the same outputs
    lines += [f"{name}: not running: needs a restart" if removed else f"{name}: is new; starting" for name in rigs]
    for text in lines or ["no changes"]:
        log.info("reload: %s", printable(text))
    return selection, [] if removed else list(rigs.values())
