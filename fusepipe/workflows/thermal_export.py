"""``fusepipe thermal export``: frames of an infrared recording as 16-bit TIFF or CSV files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.errors import OutputExistsError, SinkError, SourceError, UsageError
from fusepipe.core.files import write_bytes, write_text
from fusepipe.core.frames import Frame
from fusepipe.core.image_files import write_pixels
from fusepipe.core.radiometry import Unit
from fusepipe.core.text import counted
from fusepipe.workflows.thermal_frames import LinearRadiometry, open_thermal

LIST = "frames.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Export:
    """The options of ``fusepipe thermal export``; times in seconds, ``None`` for the beginning and the end."""

    file: Path
    folder: Path
    form: Literal["tiff", "csv"] = "tiff"
    unit: Unit = "counts"
    from_s: float | None = None
    to_s: float | None = None
    radiometry: LinearRadiometry | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """The folder that was written, its frames and those of the recording that could not be read."""

    folder: str
    frames: int
    unreadable: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """For people."""
        skipped = f"; {self.unreadable} could not be read" if self.unreadable else ""
        return f"{self.folder}: {counted(self.frames, 'frame')} and {LIST}{skipped}"


def export_frames(export: Export, progress: Progress) -> Exported:
    """Writes the frames, and ``frames.json`` with the time of each and what its counts measure.

    Raises :class:`SinkError` where the folder cannot be written, :class:`UsageError` for temperatures of counts without
    a unit, :class:`SourceError` for a file without frames in that time.
    """
    folder = export.folder
    if folder.exists() and not folder.is_dir():
        raise SinkError(f"{folder}: is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not export.overwrite:
        raise OutputExistsError(f"{folder}: is not empty; --overwrite writes into it")
    listed: list[dict[str, Any]] = []
    with open_thermal(export.file, export.radiometry) as file:
        total = file.info.frames or 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for time_s, frame in file.frames(export.from_s or 0.0):
                if export.to_s is not None and time_s > export.to_s:
                    break
                if export.from_s is None or time_s >= export.from_s:
                    listed.append(_write(export, len(listed), time_s, frame))
                    progress(len(listed), max(total, len(listed)))
            write_text(folder / LIST, json.dumps({"file": export.file.name, "frames": listed}, indent=1) + "\n")
        except OSError as error:
            raise SinkError(f"{folder}: cannot be written: {error.strerror or error}") from error
        unreadable = file.unreadable
    if not listed:
        raise SourceError(f"{export.file}: has no frames in that time")
    return Exported(str(folder), len(listed), unreadable)


def _write(export: Export, number: int, time_s: float, frame: Frame) -> dict[str, Any]:
    """Writes one frame; returns its entry in the list."""
    values: NDArray[Any] = frame.luma.pixels
    radiometry = frame.radiometry
    if export.unit != "counts":
        if radiometry is None or not radiometry.thermal:
            raise UsageError(f"{export.file}: does not say what its counts measure; add --radiometry UNIT GAIN OFFSET")
        values = radiometry.celsius(values) if export.unit == "celsius" else radiometry.kelvin(values)
    path = export.folder / f"{number:06d}.{export.form}"
    if export.form == "csv":
        write_bytes(path, _csv(values), durable=False)
    elif export.unit == "counts":
        write_pixels(path, values.astype(np.uint16))
    else:
        write_pixels(path, values.astype(np.float32))  # type: ignore[arg-type]
    known = None if radiometry is None else asdict(radiometry)
    return {"file": path.name, "time_s": round(time_s, 6), "unit": export.unit, "radiometry": known}


def _csv(values: NDArray[Any]) -> bytes:
    """One line for each row of pixels: counts, or degrees to a thousandth; pixels without a temperature are empty."""
    if np.issubdtype(values.dtype, np.integer):
        return "".join(",".join(map(str, row)) + "\n" for row in values.tolist()).encode()
    rows = (",".join("" if value != value else f"{value:.3f}" for value in row) for row in values.tolist())
    return "".join(row + "\n" for row in rows).encode()
