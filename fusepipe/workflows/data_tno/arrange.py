"""Arranges the TNO data set from a folder or an archive, every image verified by the checksum of its pixels.

Members of an archive are read by name and never extracted: only the names of the catalogue
are written, so that a name in an archive cannot point outside the folder.
"""

from __future__ import annotations

import secrets
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusepipe.core import image_files, image_formats
from fusepipe.core.errors import OutputExistsError, SinkError, SourceError
from fusepipe.core.files import replace_folder
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.tno_catalogue import Item, catalogue, digest, match_items, set_of
from fusepipe.workflows.data_tno.download import download, figshare_file

MAX_FILES = 20_000
MAX_FILE_BYTES = 32_000_000  # the largest image of the release has 2 MB
MAX_SEARCHED = 3_000  # images that are compared by content when names do not help
NOT_RELEASED = "not in the TNO release: part of the 42 pairs that papers test on"

Advance = Callable[[int, int], None]


@dataclass(slots=True)
class Arranged:
    """The result: ``complete`` is (verified images, all images) of each set.

    ``missing`` images were not found, ``different`` ones have other pixels than expected; both with the
    reason. ``folder`` is where the images are.
    """

    folder: str
    complete: dict[str, tuple[int, int]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    different: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"complete": {k: {"have": a, "of": b} for k, (a, b) in self.complete.items()}}


class _Store:
    """The files of a folder or an archive."""

    def __init__(self, label: str, names: list[str], read: Callable[[str], bytes]) -> None:
        self.label = label
        self.names = [name for name in names if Path(name).suffix.lower() in image_formats.READ_SUFFIXES]
        self._read = read

    def luma(self, name: str) -> Luma8 | None:
        """The image as 8-bit grey, colour by BT.601; ``None`` for what is no 8-bit image."""
        data = np.frombuffer(self._read(name) or b"\0", np.uint8)
        try:
            pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
        if pixels is None or pixels.dtype != np.uint8:
            return None
        if pixels.ndim == 3:
            colour = np.ascontiguousarray(pixels[..., :3])
            same = bool(np.all(colour == colour[..., :1]))
            pixels = colour[..., 0] if same else cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
        return np.ascontiguousarray(pixels)


@contextmanager
def _opened(source: Path) -> Iterator[_Store]:
    if source.is_dir():
        names = []
        for path in source.rglob("*"):
            if path.is_file():
                names.append(path.relative_to(source).as_posix())
            if len(names) > MAX_FILES:
                raise SourceError(f"{source}: has more than {MAX_FILES} files; give the folder of the data set")
        yield _Store(str(source), sorted(names), lambda name: _file(source / name))
    elif not source.exists():
        raise SourceError(f"{source}: no such file or folder")
    else:
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(source))
            except (zipfile.BadZipFile, OSError) as error:
                raise SourceError(f"{source}: is not a complete zip archive{_first_words(source)}") from error
            infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            if len(infos) > MAX_FILES:
                raise SourceError(f"{source}: holds {len(infos)} files, more than the {MAX_FILES} that are allowed")
            yield _Store(str(source), sorted(infos), lambda name: _member(archive, infos[name], source))


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    return b"" if len(data) > MAX_FILE_BYTES else data


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: Path) -> bytes:
    try:
        # the size in the archive's directory may be wrong: the read is limited as well
        with archive.open(info) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise SourceError(f"{source}: {info.filename} in it is damaged or encrypted: {error}") from error
    return b"" if len(data) > MAX_FILE_BYTES else data


def _first_words(path: Path) -> str:
    start = _file(path)[:200].lstrip().lower()
    return " but a web page; download the archive itself" if start.startswith((b"<!doctype", b"<html")) else ""


def verify_folder(folder: Path, step: Advance) -> Arranged:
    """Verifies an arranged folder; nothing is changed."""
    report = Arranged(str(folder))
    with _opened(folder) as store:
        there = set(store.names)
        found: dict[Item, str] = {item: item.file for item in catalogue() if item.file in there}
        for index, item in enumerate(catalogue()):
            step(index + 1, len(catalogue()))
            if item not in found:
                report.missing[item.file] = "missing"
            elif not _is(item, store.luma(item.file)):
                report.different[item.file] = "its pixels differ from the published image"
    _count(report)
    return report


def _is(item: Item, luma: Luma8 | None) -> bool:
    return luma is not None and digest(luma) == item.pixels_sha256


def _count(report: Arranged) -> None:
    wrong = report.missing.keys() | report.different.keys()
    for name in dict.fromkeys(set_of(item) for item in catalogue()):
        items = [item for item in catalogue() if set_of(item) == name]
        report.complete[name] = (sum(item.file not in wrong for item in items), len(items))


def get(source: str, target: Path, *, overwrite: bool, step: Advance, api: str | None = None) -> Arranged:
    """Arranges ``source`` (a folder, a zip, an address or ``figshare``) in ``target``.

    Images are found by their names in the release or in the arranged layout, else by content; each is
    verified. ``target`` is created atomically. Raises :class:`OutputExistsError`,
    :class:`SourceError` where nothing is found or the download fails, :class:`SinkError`.
    """
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target}: already exists; use --overwrite to replace it, or --to with another folder")
    if target.is_file():
        raise SinkError(f"{target}: is a file; name a folder")
    target = target.absolute()
    here = Path(source)
    if here.is_dir() and here.resolve() == target.resolve():
        raise SourceError(f"{source}: is the folder to arrange into; without --from it is verified")
    work = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        work.mkdir(parents=True)
        place = Path(source)
        if source == "figshare" or "://" in source:
            address, md5 = (figshare_file(api) if api else figshare_file()) if source == "figshare" else (source, "")
            place = work / "download.zip"
            download(address, place, step, md5=md5)
        report = _arrange(place, work / "tno", step, source)
        report.folder = str(target)
        replace_folder(work / "tno", target)
    except OSError as error:
        raise SinkError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def _arrange(source: Path, folder: Path, step: Advance, label: str) -> Arranged:
    report = Arranged(str(folder))
    items = catalogue()
    with _opened(source) as store:
        named = match_items(store.names, items)
        images: dict[Item, Luma8] = {}
        for index, item in enumerate(items):
            step(index + 1, len(items))
            for name in named.get(item, ()):
                luma = store.luma(name)
                if luma is not None and _is(item, luma):
                    images[item] = luma
                    report.different.pop(item.file, None)
                    break
                report.different[item.file] = f"{name}: its pixels differ from the published image"
        claimed = {name for item in images for name in named[item]}
        images |= _by_content(store, [item for item in items if item not in images], claimed, report)
    if not images:
        raise SourceError(f"{label}: has no image of the TNO data set that could be verified{_why(report.different)}")
    for item in items:
        if item in images:
            path = folder / item.file
            path.parent.mkdir(parents=True, exist_ok=True)
            image_files.write_pixels(path, images[item])
        elif item.file not in report.different:
            report.missing[item.file] = "not found" if item.release_file else NOT_RELEASED
    _count(report)
    return report


def _by_content(store: _Store, wanted: list[Item], claimed: set[str], report: Arranged) -> Mapping[Item, Luma8]:
    """Images under other names, as copies of the data set have them."""
    by_digest: dict[str, list[Item]] = {}
    for item in wanted:
        by_digest.setdefault(item.pixels_sha256, []).append(item)
    found: dict[Item, Luma8] = {}
    for name in [name for name in store.names if name not in claimed][:MAX_SEARCHED] if by_digest else []:
        luma = store.luma(name)
        if luma is None:
            continue
        for item in by_digest.get(digest(luma), []):
            found[item] = luma
            report.different.pop(item.file, None)
    return found


def _why(different: Mapping[str, str]) -> str:
    return f" ({len(different)} have the right name but other pixels)" if different else ""
