"""Which images a run trains on: any folder of photographs, any paired folders, or the committed split.

TNO is the test set: any path that leads through a folder of that name is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fusepipe.core.errors import SourceError
from fusepipe.evaluation.image_sets import match
from fusepipe.train.data.split import BASE_SETS, read_split
from fusepipe.train.data.training_images import IMAGE_SUFFIXES, find_image, refuse_test_data, require_folder

Item = TypeVar("Item")
PairFiles = tuple[Path, Path]
"""Files of the infrared and the visible image of one pair."""

VALIDATION_SHARE = 20
"""One image in this many validates where the folder does not say which."""


@dataclass(frozen=True, slots=True)
class Split(Generic[Item]):
    """Training and validation data."""

    train: list[Item]
    validation: list[Item]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of the items, evenly spaced; 0 keeps all."""
    if not most or len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def photographs(folder: Path, *, most: int = 0, most_validation: int = 0) -> Split[Path]:
    """The photographs below a folder, in the order of their names.

    Where it holds folders whose names begin with ``train`` and ``val`` (COCO's ``train2017`` and
    ``val2017``, also inside ``images``), these are the two parts; else every twentieth image validates.
    Raises :class:`SourceError` when there are too few and :class:`UsageError` inside TNO.
    """
    require_folder(folder, "photographs in it or below")
    parts: list[list[Path]] = []
    for prefix in ("train", "val"):
        roots = [p for base in (folder, folder / "images") for p in sorted(base.glob(f"{prefix}*")) if p.is_dir()]
        parts.append([path for root in roots for path in images_below(root)])
    if not all(parts):
        everything = images_below(folder)
        validation = everything[::VALIDATION_SHARE]
        parts = [[path for index, path in enumerate(everything) if index % VALIDATION_SHARE], validation]
    train, validation = parts
    if not train or not validation:
        count = len(train) + len(validation)
        raise SourceError(f"{folder}: {count} photographs ({', '.join(IMAGE_SUFFIXES)}); training needs many")
    return Split(spread(train, most), spread(validation, most_validation))


def images_below(folder: Path) -> list[Path]:
    """All image files of a folder and those below it, in the order of their names.

    Raises :class:`SourceError` where there is no such folder and :class:`UsageError` where one of them is in TNO.
    """
    require_folder(folder, "photographs in it or below")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    for each in {path.parent for path in found}:
        refuse_test_data(each)
    return found


def committed_pairs(data: Path, *, most_validation: int = 0) -> Split[PairFiles]:
    """The base sets' pairs of ``splits/registered_pairs.csv``, in ``data/DATASET/{ir,vis}``; all must exist."""
    require_folder(data, "DATASET/ir and DATASET/vis in it")

    def files(split: list[tuple[str, str]]) -> list[PairFiles]:
        return [(find_image(data / name / "ir", stem), find_image(data / name / "vis", stem)) for name, stem in split]

    validation = spread(read_split("validation", BASE_SETS), most_validation)
    return Split(files(read_split("train", BASE_SETS)), files(validation))


def paired_folders(data: Path, *, most_validation: int = 0) -> Split[PairFiles]:
    """All pairs of all folders below ``data`` (or itself) that hold ``ir`` and ``vis``, matched by stem.

    The last twentieth of each folder validates (at least one pair): neighbours of a sequence stay on one side.
    Raises :class:`SourceError` when there is nothing to train on and :class:`UsageError` inside TNO.
    """
    require_folder(data, "ir/ and vis/ in it or below")
    train: list[PairFiles] = []
    validation: list[PairFiles] = []
    for infrared in sorted(data.rglob("ir")):
        folder = infrared.parent
        if not (folder / "vis").is_dir():
            continue
        refuse_test_data(folder)
        matched = match(infrared=infrared, visible=folder / "vis")
        files = [(matched.files[name][0], matched.files[name][1]) for name in matched.names]
        held_out = max(1, len(files) // VALIDATION_SHARE)
        train += files[:-held_out]
        validation += files[-held_out:]
    if not train:
        raise SourceError(f"{data}: no folder below it holds ir/ and vis/ with at least two pairs")
    return Split(train, spread(validation, most_validation))


PAIRS = {"committed": committed_pairs, "folders": paired_folders}
"""The functions that find a run's pairs, by the configuration's ``pairs``."""
