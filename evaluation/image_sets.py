"""Folders of images for evaluation: pairing by stem, sets and sequences, 8-bit luma."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusepipe.core import image_files
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Luma8
from fusepipe.core.natural_order import natural_key
from fusepipe.core.text import shortlist


@dataclass(frozen=True, slots=True)
class Matched:
    """Files of several folders that share a stem, in natural order; ``lone`` stems lack a partner.

    ``files`` maps a stem to one path a folder, in the order of the folders.
    """

    files: Mapping[str, tuple[Path, ...]]
    lone: Mapping[str, Sequence[str]]

    @property
    def names(self) -> list[str]:
        return list(self.files)

    def notes(self) -> list[str]:
        """The images without a partner, one line per role."""
        return [
            f"no partner for {len(stems)} of {role}: {shortlist(stems)}" for role, stems in self.lone.items() if stems
        ]


@dataclass(frozen=True, slots=True)
class ImageSet:
    """One set of registered pairs: a folder with ``ir/`` and ``vis/``."""

    name: str
    pairs: Matched
    sequence: bool


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """``wanted`` indices of ``count``, evenly spaced, the first one included; all where there are fewer."""
    wanted = min(count, wanted)
    return [index * count // wanted for index in range(wanted)]


def match(**folders: Path) -> Matched:
    """Pairs the images of folders by stem; the keywords name the roles (``infrared``, …) in messages.

    Raises :class:`SourceError` for a folder that cannot be read or where no stem is in all folders.
    """
    for role, folder in folders.items():
        if folder.is_file():
            raise SourceError(f"{folder}: is a file; give the folder of the {role} images")
    found = {role: {path.stem: path for path in image_files.list_images(folder)} for role, folder in folders.items()}
    common = set.intersection(*(set(files) for files in found.values()))
    if not common:
        examples = "; ".join(f"{role} has {next(iter(files))!r}" for role, files in found.items())
        raise SourceError(f"no image has the same stem in all of {', '.join(map(str, folders.values()))} ({examples})")
    order = sorted(common, key=natural_key)
    lone = {role: [stem for stem in files if stem not in common] for role, files in found.items()}
    return Matched({stem: tuple(files[stem] for files in found.values()) for stem in order}, lone)


def find_sets(folder: Path, chosen: Sequence[str] | None = None, *, sequence: bool | None = None) -> list[ImageSet]:
    """The sets of a folder: itself if it holds ``ir/`` and ``vis/``, else those below it.

    Looks at ``FOLDER/NAME/{ir,vis}`` and, as in an arranged TNO folder, ``FOLDER/sequences/NAME/{ir,vis}``.
    Subfolders are sequences except one called ``pairs``; ``sequence`` overrides that for all.
    ``chosen`` keeps the sets of these names, in that order. Raises :class:`SourceError`.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder")
    folders: dict[str, Path] = {}
    if _holds_pairs(folder):
        folders[folder.resolve().name or "pairs"] = folder
    else:
        for parent in (folder, folder / "sequences"):
            below = sorted(parent.iterdir(), key=lambda p: natural_key(p.name)) if parent.is_dir() else []
            folders |= {path.name: path for path in below if _holds_pairs(path)}
    if not folders:
        raise SourceError(f"{folder}: contains neither ir/ and vis/ nor folders with them")
    single = folder in folders.values()
    wanted = list(chosen) if chosen else list(folders)
    for name in wanted:
        if name not in folders:
            raise SourceError(f"{folder}: has no set {name!r}; it has {', '.join(folders)}")
    return [
        ImageSet(
            name,
            match(infrared=folders[name] / "ir", visible=folders[name] / "vis"),
            (not single and name != "pairs") if sequence is None else sequence,
        )
        for name in wanted
    ]


def _holds_pairs(folder: Path) -> bool:
    return (folder / "ir").is_dir() and (folder / "vis").is_dir()


def read_luma(path: Path, role: str = "visible") -> Luma8:
    """HxW uint8 luma of an 8-bit image: grey as it is, colour by BT.601; alpha is ignored.

    Raises :class:`SourceError` for what cannot be decoded and for 16-bit images, because their mapping to 8 bit
    would determine the result.
    """
    try:
        pixels = image_files.read_pixels(path)
    except image_files.UnreadableImage as error:
        raise SourceError(f"{path}: cannot be used: {error}") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if pixels.dtype != np.uint8:
        raise SourceError(
            f"{path}: is a 16-bit image; metrics are defined on 8 bit: map it with one fixed range first "
            "(fusepipe fuse --range LOW HIGH does)"
        )
    planes = (
        image_files.infrared_image_planes(pixels) if role == "infrared" else image_files.visible_image_planes(pixels)
    )
    luma: Luma8 = np.ascontiguousarray(planes[0].pixels, dtype=np.uint8)
    return luma


def require_one_size(name: str, **images: Luma8) -> None:
    """Raises :class:`SourceError` where the images of one stem differ in size."""
    if len({image.shape for image in images.values()}) > 1:
        sizes = ", ".join(f"{role} {image.shape[1]}x{image.shape[0]}" for role, image in images.items())
        raise SourceError(f"{name}: images of one pair have to be of one size, registered to each other; got {sizes}")
