"""Pairs whose map from infrared to visible pixels is known, and pairs that do not belong together.

Infrared images that the data sets have registered are warped by a random map, seen by a smaller sensor, and spoilt as
poor cameras and weather do. What is drawn depends on the pair's name only, so that a study can be resumed.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.matrix import Matrix3, scaling
from fusepipe.core.frames import Luma8, Size

SETS = (
    *("roadscene", "msrs", "msrs_more", "llvip", "llvip_more", "m3fd", "fmb", "mfnet", "kaist", "cvc14", "m3svd"),
    "tno/pairs",
)
ONE_PLACE = ("m3svd", "llvip", "llvip_more", "kaist", "cvc14", "msrs_more")  # whose pairs may show one place twice
# of M3FD, looked at: one street or crossing at different times, which registers as what it is
SAME_STREET = tuple(
    frozenset(f"m3fd/{stem}" for stem in stems.split())
    for stems in ("00000 00016", "00111 00118", "00149 00159", "00232 00240 00242", "01587 01670")
)
RATIOS = (0.72, 1.5)  # of the infrared view's width to the visible one's
MARGIN = 0.04
SENSORS: tuple[Size, ...] = ((640, 512), (320, 256), (160, 128), (80, 64))
SENSOR_ODDS = (0.35, 0.35, 0.15, 0.15)
LENS_ODDS, LENS = 0.3, (-0.04, 0.02)  # radial distortion at the corners
TILT = 0.015
MAX_ROLL_DEG = 3.0
POOR_ODDS = 0.3
NARROW_SETS = ("msrs_more", "msrs", "m3fd", "llvip_more", "fmb")
NARROW_RATIOS = (0.36, 0.45, 0.55, 0.65)  # of the part's width to the visible one
RAW_SHARE, ONE_SET_SHARE = 0.03, 0.5

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Known:
    """``matrix`` 3x3 takes an infrared pixel, after the radial distortion ``bend`` is undone, to a visible pixel."""

    name: str
    infrared: Luma8
    visible: Luma8
    matrix: Matrix3
    bend: float = 0.0

    def to_visible(self, points: Points) -> Points:
        """Nx2 infrared pixels to the visible pixels that show the same."""
        centre = (np.array(self.infrared.shape[::-1]) - 1) / 2
        off = points - centre
        squared = (off * off).sum(axis=-1, keepdims=True) / (centre * centre).sum()
        ideal = off / (1 + self.bend * squared) + centre
        return np.asarray(cv2.perspectiveTransform(ideal[None], self.matrix)[0], np.float64)


@dataclass(frozen=True, slots=True)
class Registered:
    """The files of a pair that a data set has registered."""

    name: str
    infrared: Path
    visible: Path

    @property
    def set_name(self) -> str:
        return self.name.rpartition("/")[0]


def registered(data: Path) -> list[Registered]:
    """All pairs of ``SETS`` below a folder, in order."""
    found = []
    for one in SETS:
        visible = {path.stem: path for path in (data / one / "vis").glob("*.*")}
        for path in sorted((data / one / "ir").glob("*.*")):
            if path.stem in visible:
                found.append(Registered(f"{one}/{path.stem}", path, visible[path.stem]))
    return found


def raw(data: Path) -> Iterator[Known]:
    """The pairs of RoadScene before registration; their reference is an estimate."""
    folder = data / "misaligned" / "roadscene_raw"
    with (folder / "reference.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        infrared, visible = (read(folder / f"{row['name']}") for folder in (folder / "ir", folder / "vis"))
        matrix = np.array([[float(row[f"h{i}{j}"]) for j in range(3)] for i in range(3)])
        size = int(row["aligned_width"]), int(row["aligned_height"])
        yield Known(f"raw/{row['name']}", infrared, visible, scaling(size, visible.shape[::-1]) @ matrix)


def read(path: Path) -> Luma8:
    """HxW uint8; a path without a suffix is completed. Raises :class:`FileNotFoundError`."""
    found = path if path.suffix else next(iter(path.parent.glob(f"{path.name}.*")), path)
    image = cv2.imread(str(found), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(found)
    return np.asarray(image, np.uint8)


def drawing(name: str) -> np.random.Generator:
    """The random numbers that belong to a name."""
    return np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:12], 16))


def warped(pair: Registered, part: int) -> Known:
    """The pair as an unregistered rig would see it; another map for each ``part``."""
    name = f"{pair.name}:{part}"
    rng = drawing(name)
    infrared, visible = read(pair.infrared), read(pair.visible)
    sensor = SENSORS[int(rng.choice(len(SENSORS), p=SENSOR_ODDS))]
    crop, corners = _views((visible.shape[1], visible.shape[0]), sensor[1] / sensor[0], rng)
    last = np.array(sensor) - 1
    outline = np.array([[0, 0], [last[0], 0], last, [0, last[1]]], np.float32)
    matrix = np.asarray(cv2.getPerspectiveTransform(outline, corners.astype(np.float32)), np.float64)
    bend = float(rng.uniform(*LENS)) if rng.random() < LENS_ODDS else 0.0
    image = _seen(infrared, Known(name, np.zeros(sensor[::-1], np.uint8), visible, matrix, bend))
    if rng.random() < POOR_ODDS:
        image = poor(image, rng)
    x, y, width, height = crop
    shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
    cropped = np.ascontiguousarray(visible[y : y + height, x : x + width])
    return Known(name, image, cropped, shift @ matrix, bend)


def poor(image: Luma8, rng: np.random.Generator) -> Luma8:
    """HxW uint8, blurred, with little contrast, noisy, and half of the time with a part that shows nothing."""
    height, width = image.shape
    dull = cv2.GaussianBlur(image.astype(np.float32), (0, 0), float(rng.uniform(0.5, 4) * width / 640 + 0.3))
    dull = (dull - dull.mean()) * float(rng.uniform(0.15, 1)) + 128
    if rng.random() < 0.5:
        blank = np.zeros((height, width), np.float32)
        part = float(rng.uniform(0.2, 0.6))
        if rng.random() < 0.5:
            blank[:, : int(width * part)] = 1
        else:
            blank[: int(height * part)] = 1
        if rng.random() < 0.5:
            blank = np.ascontiguousarray(blank[::-1, ::-1])
        blank = np.asarray(cv2.GaussianBlur(blank, (0, 0), max(width / 60, 1.0)), np.float32)
        dull = dull * (1 - blank) + 128 * blank
    return np.clip(dull + rng.normal(0, float(rng.uniform(1, 8)), dull.shape), 0, 255).astype(np.uint8)


def narrow(data: Path) -> Iterator[tuple[str, Callable[[], Known]]]:
    """Names, and what makes the pairs: parts of raw and of registered infrared images as the whole infrared view.

    ``NARROW_SETS`` at each of ``NARROW_RATIOS``, the place drawn from the name.
    """
    for one in raw(data):
        for ratio in NARROW_RATIOS:
            yield f"{one.name}:{ratio}", partial(_part, one, ratio)
    chosen = [pair for pair in registered(data) if pair.set_name in NARROW_SETS]
    for ratio in NARROW_RATIOS:
        for pair in chosen:
            yield f"{pair.name}:{ratio}", partial(_registered_part, pair, ratio)


def _registered_part(pair: Registered, ratio: float) -> Known:
    infrared, visible = read(pair.infrared), read(pair.visible)
    matrix = scaling((infrared.shape[1], infrared.shape[0]), (visible.shape[1], visible.shape[0]))
    return _part(Known(pair.name, infrared, visible, matrix), ratio)


def _part(whole: Known, ratio: float) -> Known:
    """A part of the infrared image that covers ``ratio`` of the visible width, inside the visible image."""
    name, (height, width) = f"{whole.name}:{ratio}", whole.infrared.shape
    seen = whole.to_visible(np.array([[0.0, height / 2], [width, height / 2]]))
    share = min(1.0, ratio * whole.visible.shape[1] / float(np.ptp(seen[:, 0])))
    part = round(share * width), round(share * height)
    rng = drawing(name)
    for _ in range(100):  # parts of raw images that stick out of the visible one are drawn again
        x, y = (
            int(rng.integers(0, whole_side - side + 1)) for whole_side, side in ((width, part[0]), (height, part[1]))
        )
        shift = np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
        one = Known(
            name,
            np.ascontiguousarray(whole.infrared[y : y + part[1], x : x + part[0]]),
            whole.visible,
            whole.matrix @ shift,
        )
        there = one.to_visible(np.array([[0.0, 0.0], [part[0], 0], part, [0, part[1]]]))
        if (there >= 0).all() and (there <= whole.visible.shape[::-1]).all():
            break
    return one


Images = tuple[Luma8, Luma8]


def mismatched(data: Path, number: int, unregistered: Sequence[Known]) -> Iterator[tuple[str, Callable[[], Images]]]:
    """(name, what makes the infrared and visible image) of ``number`` different pairs of images of different scenes.

    Half are registered images as they are, of one data set or of two; the others are warped, and a few are of the
    ``unregistered`` pairs.
    """
    pairs = registered(data)
    rng = drawing("mismatched")
    names: set[str] = set()
    while len(names) < number:
        kind = rng.random()
        if kind < RAW_SHARE and unregistered:
            one, other = (unregistered[int(i)] for i in rng.choice(len(unregistered), 2, replace=False))
            name = f"{one.name} x {other.name}"
            if name not in names:
                names.add(name)
                yield name, partial(lambda one, other: (one.infrared, other.visible), one, other)
            continue
        first, second = (pairs[int(i)] for i in rng.choice(len(pairs), 2, replace=False))
        if kind < ONE_SET_SHARE:  # scenes of one data set resemble each other
            beside = [one for one in pairs if one.set_name == first.set_name and one.name != first.name]
            second = beside[int(rng.integers(len(beside)))] if beside else second
        name = f"{first.name} x {second.name}" + (":0" if rng.random() < 0.5 else "")
        if name in names or same_place(first, second):
            continue
        names.add(name)
        yield name, partial(_of_two, first, second, name.endswith(":0"))


def _of_two(first: Registered, second: Registered, as_rigs: bool) -> Images:
    """The infrared image of one pair and the visible one of another, as unregistered rigs would see them or as is."""
    if as_rigs:
        return warped(first, 0).infrared, warped(second, 0).visible
    return read(first.infrared), read(second.visible)


def same_place(one: Registered, other: Registered) -> bool:
    """Whether two pairs may show one place: sets taken in one place, names that begin alike, ``SAME_STREET``."""
    stems = one.infrared.stem.lower(), other.infrared.stem.lower()
    if one.set_name != other.set_name:
        return stems[0] == stems[1]
    if any({one.name, other.name} <= street for street in SAME_STREET):
        return True
    return one.set_name in ONE_PLACE or (one.set_name == "tno/pairs" and stems[0][:4] == stems[1][:4])


def _views(visible: Size, aspect: float, rng: np.random.Generator) -> tuple[tuple[int, int, int, int], Points]:
    """(x, y, width, height) of the visible camera's view, and the 4x2 corners of the infrared one's, in one image."""
    width, height = visible
    ratio = float(np.exp(rng.uniform(*np.log(RATIOS))))
    view_width = min(ratio, 1.0) * (1 - 2 * MARGIN) * width
    view_height = view_width * aspect
    if view_height > height * (1 - 2 * MARGIN):
        view_height = height * (1 - 2 * MARGIN)
        view_width = view_height / aspect
    crop = 0, 0, width, height
    if ratio > 1:
        part = int(width / ratio), int(height / ratio)
        crop = int(rng.integers(0, width - part[0] + 1)), int(rng.integers(0, height - part[1] + 1)), *part
    free = np.maximum([width * (1 - 2 * MARGIN) - view_width, height * (1 - 2 * MARGIN) - view_height], 0)
    centre = np.array([width, height]) / 2 + (rng.uniform(-0.5, 0.5, 2) * free if ratio <= 1 else 0.0)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (view_width / 2, view_height / 2)
    roll = np.deg2rad(rng.uniform(-MAX_ROLL_DEG, MAX_ROLL_DEG))
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return crop, corners @ turn.T + centre + rng.uniform(-TILT, TILT, (4, 2)) * view_width


def _seen(infrared: Luma8, view: Known) -> Luma8:
    """The infrared image through a map into the image it is registered to, with a sensor's noise."""
    height, width = view.infrared.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    there = view.to_visible(np.stack([x.ravel(), y.ravel()], axis=1)).astype(np.float32).reshape(height, width, 2)
    step = float(np.hypot(*(there[height // 2, width // 2 + 1] - there[height // 2, width // 2])))
    smooth = cv2.GaussianBlur(infrared, (0, 0), max(0.5, 0.4 * step))
    image = cv2.remap(smooth, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    noise = drawing(f"{view.name} noise").normal(0, 1.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
