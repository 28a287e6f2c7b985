"""The engine of a worker: opened with its first clip, and kept for the next ones with the same ``fusion``."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from fusepipe.config.schema import FusionConfig
from fusepipe.core.fuser import Fuser, FuserBase, FusionBatch, Ticket
from fusepipe.rig.factories.fusers import lease_fuser


class BorrowedFuser(FuserBase):
    """A fuser of another owner: closing it leaves that one open."""

    def __init__(self, owned: Fuser) -> None:
        super().__init__()
        self._owned = owned
        self.info = owned.info

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        self._owned.prepare(height, width, batch)

    def submit(self, batch: FusionBatch) -> Ticket:
        self._require_open()
        return self._owned.submit(batch)


class KeptEngine:
    """One engine at a time: clips with another ``fusion`` replace it. One thread uses it."""

    def __init__(self) -> None:
        self._fuser: Fuser | None = None
        self._fusion: FusionConfig | None = None

    def borrow(self, fusion: FusionConfig) -> Fuser:
        """The engine for one run, which may close what it gets. Raises :class:`EngineError`."""
        if self._fuser is None or fusion != self._fusion:
            self.close()
            self._fuser, self._fusion = lease_fuser(fusion), fusion
        return BorrowedFuser(self._fuser)

    def close(self) -> None:
        """Closes the engine; the next clip opens another one."""
        fuser, self._fuser = self._fuser, None
        if fuser is not None:
            fuser.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
