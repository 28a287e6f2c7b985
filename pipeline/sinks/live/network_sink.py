"""What sinks that serve or push have in common: no files, and one report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from fusepipe.pipeline.sinks.base import SinkReport


class NetworkSink(ABC):
    """Implements the parts of :class:`fusepipe.pipeline.sinks.base.Sink` that concern files and ``close``."""

    _report: SinkReport | None = None

    @property
    def outputs(self) -> Sequence[Path]:
        return ()

    def close(self) -> SinkReport:
        if self._report is None:
            self._report = self._finish()
        return self._report

    @abstractmethod
    def _finish(self) -> SinkReport:
        """Disconnects and reports; called once."""
