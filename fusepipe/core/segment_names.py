"""Names of a recording's segments: generated from a pattern and the time, and matched against it.

A pattern is a path with ``strftime`` directives that give digits (``rec/%Y-%m-%d/%H-%M-%S.mkv``), so that no name
is outside the pattern's folder. If a file exists, a number is added: ``02-30-00.2.mkv``. A file that
is being written has ``.partial`` before its suffix; a sidecar ends in ``.jsonl``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIDECAR = ".jsonl"
MAX_NUMBER = 10_000
# strftime directive -> regular expression of its text
_DIGITS = {"Y": r"\d{4}", "j": r"\d{3}", "%": "%"} | dict.fromkeys("ymdHMS", r"\d{2}")
_MARK = re.compile(r"%(.)")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment on disk: the video, its sidecar, or both.

    ``name`` is the video's final path; ``ended_ns`` is the last modification of its files (UNIX time).
    """

    name: Path
    files: tuple[Path, ...]
    size_bytes: int
    ended_ns: int


class SegmentNames:
    """Generates and matches names. ``pattern`` is an absolute path (``%%``: a percent sign); ``utc``: in UTC."""

    def __init__(self, pattern: str, *, utc: bool = False) -> None:
        self.pattern = pattern
        self._utc = utc
        parts = Path(pattern).parts
        fixed = next(i for i, part in enumerate(parts) if _MARK.search(part.replace("%%", "")) or part is parts[-1])
        self.folder = Path(*(part.replace("%%", "%") for part in parts[:fixed]))
        self._folders = [re.compile(_expression(part)) for part in parts[fixed:-1]]
        stem, self._suffix = Path(parts[-1]).stem, Path(parts[-1]).suffix
        kinds = "|".join(map(re.escape, (self._suffix, SIDECAR)))
        self._file = re.compile(rf"(?P<stem>{_expression(stem)}(?:\.[1-9]\d*)?)(?:\.partial)?(?:{kinds})")

    def paths(self, unix_ns: int) -> Iterator[Path]:
        """Candidate names of a segment that starts at ``unix_ns``: without a number, then with 2, 3 and so on."""
        seconds = unix_ns // 1_000_000_000
        moment = time.gmtime(seconds) if self._utc else time.localtime(seconds)
        text = _MARK.sub(lambda mark: "%" if mark[1] == "%" else time.strftime(mark[0], moment), self.pattern)
        path = Path(text)
        yield path
        for number in range(2, MAX_NUMBER):
            yield path.with_name(f"{path.stem}.{number}{path.suffix}")

    def matches(self, path: Path) -> bool:
        """Whether the pattern can generate this file (a video or a sidecar, complete or partial)."""
        try:
            *folders, name = path.relative_to(self.folder).parts
        except ValueError:
            return False
        return (
            len(folders) == len(self._folders)
            and all(rule.fullmatch(folder) for rule, folder in zip(self._folders, folders, strict=True))
            and self._file.fullmatch(name) is not None
        )

    def folders(self) -> list[Path]:
        """The existing folders that can hold segments; links are not followed."""
        level = [self.folder] if self.folder.is_dir() else []
        for rule in self._folders:
            inside = [child for folder in level for child in folder.iterdir()]
            level = [c for c in inside if rule.fullmatch(c.name) and c.is_dir() and not c.is_symlink()]
        return level

    def segments(self) -> list[Segment]:
        """All segments on disk, oldest first. Raises ``OSError`` where a folder cannot be read."""
        found: dict[Path, list[tuple[Path, int, int]]] = {}
        for folder in self.folders():
            for path in folder.iterdir():
                match = self._file.fullmatch(path.name)
                if match is None or path.is_symlink() or not path.is_file():
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:  # renamed or deleted since it was listed
                    continue
                name = path.with_name(match["stem"] + self._suffix)
                found.setdefault(name, []).append((path, status.st_size, status.st_mtime_ns))
        segments = [
            Segment(name, tuple(p for p, _, _ in files), sum(s for _, s, _ in files), max(t for _, _, t in files))
            for name, files in found.items()
        ]
        return sorted(segments, key=lambda segment: (segment.ended_ns, segment.name))

    def remove_empty_folders(self, folder: Path) -> None:
        """Removes a folder of the pattern if it is empty, then those above it likewise."""
        while folder != self.folder and self.folder in folder.parents:
            try:
                folder.rmdir()
            except OSError:  # not empty
                return
            folder = folder.parent


def _expression(part: str) -> str:
    """The regular expression that matches a part of a pattern."""
    pieces, position = [], 0
    for mark in _MARK.finditer(part):
        pieces += [re.escape(part[position : mark.start()]), _DIGITS[mark[1]]]
        position = mark.end()
    return "".join([*pieces, re.escape(part[position:])])
