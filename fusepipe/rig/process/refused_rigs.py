"""The rigs of a folder whose files are invalid: logged, listed as failed on the pages of the others, and reported."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

from fusepipe.config.rig_folder import RefusedRig
from fusepipe.config.schema import Rig
from fusepipe.config.sinks import PreviewSink
from fusepipe.core.errors import FusepipeError, message_lines
from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.rig.factories.live_sinks import list_on_previews
from fusepipe.rig.report.run_report import RunReport, report_of_failed_start

log = logging.getLogger(__name__)


class RefusedRigs:
    """What a process knows of rigs that it cannot run until their files are corrected."""

    def __init__(self) -> None:
        self._refused: Sequence[RefusedRig] = ()
        self._pages = ExitStack()

    @property
    def names(self) -> list[str]:
        return [one.name for one in self._refused]

    @property
    def errors(self) -> list[FusepipeError]:
        return [one.error for one in self._refused]

    def replace(self, refused: Sequence[RefusedRig], running: Sequence[Rig]) -> None:
        """Takes the refused rigs of a start or a reload, and lists them on every page of the ``running`` ones."""
        logged = {(one.name, str(one.error)) for one in self._refused}
        names = {rig.name for rig in running}
        self._refused = [one for one in refused if one.name not in names]
        for one in refused:
            if (one.name, str(one.error)) not in logged:
                for text in message_lines(one.error):
                    log.error("%s", text)
                kept = "keeps its old settings" if one.name in names else "cannot start"
                log.error("%s: %s; correct the file and reload", one.name, kept)
        self._pages.close()
        for rig in _one_a_page(running):
            for one in self._refused:
                self._list(rig, one)

    def reports(self) -> list[RunReport]:
        return [report_of_failed_start(one.name, _status(one), str(one.error)) for one in self._refused]

    def close(self) -> None:
        """Removes them from the pages."""
        self._pages.close()

    def _list(self, rig: Rig, refused: RefusedRig) -> None:
        named = rig.model_copy(update={"name": refused.name})
        try:
            list_on_previews(named, lambda: _status(refused), self._pages)
        except FusepipeError as error:  # its own rig fails with the same
            log.warning("%s: not shown on a page: %s", refused.name, error)


def _one_a_page(rigs: Sequence[Rig]) -> list[Rig]:
    """For each page that these rigs serve, the first of them, with this page as its only output."""
    pages: dict[tuple[str, int], Rig] = {}
    for rig in rigs:
        for sink in rig.sinks:
            if isinstance(sink, PreviewSink):
                address = sink.endpoint.host, sink.endpoint.port
                pages.setdefault(address, rig.model_copy(update={"sinks": (sink,)}))
    return list(pages.values())


def _status(refused: RefusedRig) -> RigStatus:
    return RigStatus(RigState.FAILED, tuple(message_lines(refused.error)), failed_starts=1)
