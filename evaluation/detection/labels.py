"""YOLO label files: ``labels/STEM.txt`` beside ``ir/`` and ``vis/``, one line ``class x y width height`` an object.

Coordinates are the centre and the size, as shares of the image. What the class numbers mean is not in these files: it
is in ``labels/classes.txt``, one name a line, or given by the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.suggest import did_you_mean
from fusepipe.evaluation.detection.yolox import Box

CLASSES = "classes.txt"
_EXPECTED = "five numbers, the class and x y width height from 0 to 1"


def parse_maps(texts: Sequence[str], names: Sequence[str]) -> dict[str, dict[int, str]]:
    """``0=person,1=car`` for all sets or ``SET:0=person,1=car`` for one: set ("" is all) -> number -> name.

    Raises :class:`UsageError` for another form, and for names that the detector does not have.
    """
    maps: dict[str, dict[int, str]] = {}
    for text in texts:
        where, _, entries = text.rpartition(":")
        for entry in entries.split(","):
            number, _, name = (part.strip() for part in entry.partition("="))
            if not number.isdecimal() or not name:
                raise UsageError(f"--labels-map {text!r}: use 0=person,1=car, or SET:0=person,1=car for one set")
            if name not in names:
                raise UsageError(
                    f"--labels-map {text!r}: the detector has no class {name!r}: {did_you_mean(name, names)}"
                )
            maps.setdefault(where, {})[int(number)] = name
    return maps


def class_map(folder: Path, name: str, given: Mapping[str, Mapping[int, str]], known: Sequence[str]) -> dict[int, str]:
    """Number -> name of a set's labels, for the classes that the detector knows.

    Raises :class:`UsageError` where neither the user nor ``labels/classes.txt`` says what the numbers mean.
    """
    chosen = given.get(name, given.get(""))
    if chosen is not None:
        return dict(chosen)
    file = folder / CLASSES
    if not file.is_file():
        raise UsageError(
            f"{folder}: what the class numbers mean is not known: give --labels-map {name}:0=person,2=car, or write "
            f"{file.name} there, one name a line"
        )
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return {number: line for number, line in enumerate(lines) if line in known}


def read_labels(path: Path, classes: Mapping[int, str], size: tuple[int, int]) -> list[Box]:
    """The objects of one file that ``classes`` has a name for; ``size`` is the image's (height, width).

    Raises :class:`SourceError` with the line that is not a label.
    """
    height, width = size
    boxes = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, x, y, w, h = (float(part) for part in line.split()[:5])
        except ValueError as error:
            raise SourceError(f"{path}: line {number}: {line.strip()!r} is not a label: {_EXPECTED}") from error
        if not all(0 <= value <= 1 for value in (x, y, w, h)) or kind != int(kind):
            raise SourceError(f"{path}: line {number}: {line.strip()!r} is not a label: {_EXPECTED}")
        if int(kind) in classes:
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            boxes.append(Box(classes[int(kind)], corners))
    return boxes
