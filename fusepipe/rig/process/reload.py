"""Reload on SIGHUP: reads the rig file again and applies it to the running pipelines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fusepipe.core.errors import FusepipeError, message_lines, printable

if TYPE_CHECKING:
    from fusepipe.config.schema import Rig
    from fusepipe.rig.api import Pipeline

log = logging.getLogger(__name__)

ReadRigs = Callable[[], "Sequence[Rig]"]


def reload(running: Sequence[Pipeline], read: ReadRigs) -> None:
    """Reads the rigs again and applies them to the running pipelines; an invalid file changes nothing."""
    try:
        rigs = {rig.name: rig for rig in read()}
    except FusepipeError as error:
        for text in message_lines(error):
            log.error("reload: %s", text)
        log.error("reload: the file is invalid; no rig was changed")
        return
    lines = []
    for pipeline in running:
        rig = rigs.pop(pipeline.rig.name, None)
        if rig is None:
            lines.append(f"{pipeline.rig.name}: no longer in the file; keeps its old settings until a restart")
        else:
            lines += pipeline.reconfigure(rig)
    lines += [f"{name}: not running: needs a restart" for name in rigs]
    for text in lines or ["no changes"]:
        log.info("reload: %s", printable(text))
