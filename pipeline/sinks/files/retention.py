"""Retention of recorded segments: deletes those over the age limit, and the oldest over the size limit."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusepipe.core.segment_names import Segment, SegmentNames
from fusepipe.pipeline.sinks.files.partial_file import in_use

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on age and total size; ``None`` is unlimited. Without limits nothing is deleted."""

    max_age_ns: int | None = None
    max_total_bytes: int | None = None

    @property
    def any(self) -> bool:
        return self.max_age_ns is not None or self.max_total_bytes is not None


def surplus(segments: Sequence[Segment], bounds: Bounds, *, open_bytes: int, now_ns: int) -> list[Segment]:
    """The segments to delete out of ``segments`` (completed ones, oldest first). Pure.

    ``open_bytes`` is the current size of the open segment: it counts and is never deleted.
    """
    total = open_bytes + sum(segment.size_bytes for segment in segments)
    drop = []
    for segment in segments:
        old = bounds.max_age_ns is not None and now_ns - segment.ended_ns > bounds.max_age_ns
        if not old and (bounds.max_total_bytes is None or total <= bounds.max_total_bytes):
            break
        drop.append(segment)
        total -= segment.size_bytes
    return drop


class Retention:
    """Deletes segments of one pattern, from the list made by :meth:`scan`."""

    def __init__(self, names: SegmentNames) -> None:
        self._names = names
        self._segments: list[Segment] = []
        self.deleted = 0
        self.deleted_bytes = 0

    def scan(self, open_name: Path | None) -> None:
        """Lists the segments on disk, except the open one and those that another run is writing."""
        try:
            found = self._names.segments()
        except OSError as error:
            log.warning("%s: cannot list old segments: %s", self._names.folder, error.strerror or error)
            found = []
        self._segments = [s for s in found if s.name != open_name and not any(map(_being_written, s.files))]

    def enforce(self, bounds: Bounds, *, open_bytes: int) -> None:
        """Deletes the :func:`surplus`."""
        for segment in surplus(self._segments, bounds, open_bytes=open_bytes, now_ns=time.time_ns()):
            self._delete(segment)

    def free_space(self, needed_bytes: int) -> bool:
        """Deletes the oldest segments until ``needed_bytes`` are free; whether they are."""
        while (free := free_bytes(self._names.folder)) < needed_bytes and self._segments:
            oldest = self._segments[0]
            log.warning(
                "%s: disk nearly full (%.1f MB free); deleting the oldest segment %s",
                self._names.folder,
                free / 1e6,
                oldest.name.name,
            )
            self._delete(oldest)
        return free_bytes(self._names.folder) >= needed_bytes

    def _delete(self, segment: Segment) -> None:
        self._segments.remove(segment)
        for file in segment.files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s: cannot delete old segment: %s", file, error.strerror or error)
                return
        self.deleted += 1
        self.deleted_bytes += segment.size_bytes
        self._names.remove_empty_folders(segment.name.parent)


def _being_written(file: Path) -> bool:
    return ".partial." in file.name and in_use(file)


def free_bytes(folder: Path) -> int:
    """Free space for ``folder``, or for its nearest existing parent."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return shutil.disk_usage(existing).free
