"""Moving the infrared image of a running rig by hand, and saving that into its calibration file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusepipe.calibration.aligner import Aligner
from fusepipe.calibration.file.model import Calibration
from fusepipe.calibration.file.nudge import Nudge, nudged
from fusepipe.calibration.file.storage import load_calibration, save_calibration, save_text
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Size


class ManualAlignment:
    """The nudge in force; safe to use from several threads.

    ``path`` is the rig's calibration file, if it has one; ``size`` (width, height) that of the visible images;
    ``correcting`` whether the rig corrects drift, which moves the image too. ``stamp`` names backups.
    """

    def __init__(
        self,
        aligner: Aligner,
        path: Path | None,
        size: Size,
        *,
        correcting: bool = False,
        stamp: Callable[[], str] = lambda: time.strftime("%Y%m%d-%H%M%S"),
    ) -> None:
        self._aligner, self._path, self._size, self._stamp = aligner, path, size, stamp
        self._problem = "the rig corrects drift, which moves the image too: set drift to watch" if correcting else ""
        self._lock = threading.Lock()
        self._nudge = self._saved = Nudge()
        # what the rig started with, and what the file holds since
        self._base = self._current = self._loaded()

    def state(self) -> dict[str, Any]:
        """Plain values: the nudge, whether it is ``saved``, why it cannot be moved (``problem``) or ``unsavable``."""
        with self._lock:
            nudge = self._nudge
            return {
                "right": nudge.right,
                "down": nudge.down,
                "turn_deg": nudge.turn_deg,
                "stretch": nudge.stretch,
                "size": list(self._size),
                "saved": nudge == self._saved,
                "problem": self._problem,
                "unsavable": self._unsavable(),
            }

    def move_by(self, values: dict[str, float]) -> None:
        """As :meth:`move`, with the values of a :class:`Nudge` by name."""
        self.move(Nudge(**values))

    def move(self, nudge: Nudge) -> None:
        """Replaces the nudge from the next pair on. Raises :class:`UsageError` where the rig cannot be moved."""
        if self._problem:
            raise UsageError(self._problem)
        with self._lock:
            self._aligner.correct(nudge.matrix(self._size) if nudge.moves else None, self._size)
            self._nudge = nudge

    def save(self) -> Path:
        """Writes the nudge into the calibration file, and the file as it was beside it; returns that backup's path.

        Raises :class:`UsageError` where there is nothing to write it to, or where the file is another one than that the
        rig started with; :class:`SinkError` where it cannot be written.
        """
        with self._lock:
            if reason := self._unsavable():
                raise UsageError(reason)
            assert self._path is not None and self._base is not None and self._current is not None
            if self._loaded() != self._current:
                raise UsageError(f"{self._path}: has changed since the rig was started: start the rig again")
            new = nudged(self._base, self._nudge)
            backup = self._path.with_name(f"{self._path.name}.{self._stamp()}.bak")
            save_text(self._path.read_text(encoding="utf-8"), backup)  # with its comments
            save_calibration(new, self._path, overwrite=True)
            self._current, self._saved = new, self._nudge
            return backup

    def _loaded(self) -> Calibration | None:
        return None if self._path is None else load_calibration(self._path)

    def _unsavable(self) -> str:
        if self._base is None:
            return "the rig has no calibration file: make one with 'fusepipe calibrate scene' and name it in the rig"
        if self._base.kind == "stereo":
            return "a calibration of kind stereo cannot be saved so: calibrate again with 'fusepipe calibrate board'"
        return ""
