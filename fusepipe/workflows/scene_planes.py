"""``fusepipe calibrate scene --at``: the map of one plane of a rig, added to its calibration file by name."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusepipe.calibration.file.model import PLANE_NAME, Calibration, Made, make_calibration
from fusepipe.calibration.file.named_planes import at_plane, plane_names, with_plane
from fusepipe.calibration.matrix import Matrix3
from fusepipe.calibration.scene.block_matching import size_of
from fusepipe.calibration.scene.depth_planes import DepthPlane, Region, depth_planes, plane_shift
from fusepipe.calibration.scene.local_matches import MODELS, Model
from fusepipe.calibration.scene.registration import register
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.core.errors import FusepipeError, OutputExistsError, UsageError
from fusepipe.core.text import counted
from fusepipe.core.units import parse_length_m
from fusepipe.workflows.calibrate_scene import Hints

PLAIN: tuple[Model, ...] = ("shift", "similarity")  # a homography bends itself to planes at two distances
LOWER = 0.08  # of the height: how much lower in the image the blocks of a nearer plane are
SAME = 0.004  # of the width: nearer maps are of one plane

Step = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Which plane: the near or far ``end``, that at ``distance_m``, or that in a ``region`` of the visible image."""

    name: str
    end: Literal["near", "far"] | None = None
    distance_m: float | None = None
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class PlaneResult:
    """The calibration with its new plane; ``found`` is ``None`` where the file's geometry gave the map.

    ``shown`` are all planes that the pairs show; ``replaced`` whether the file had one of that name.
    """

    name: str
    calibration: Calibration
    found: DepthPlane | None
    shown: Sequence[DepthPlane]
    replaced: bool

    @property
    def text(self) -> str:
        """What was found, in words."""
        if self.found is None:
            return "from the geometry of the cameras in the file"
        (across, down), blocks = self.found.shift_px, self.found.blocks
        others = len(self.shown) - 1
        also = "the pairs show no other plane" if not others else f"the pairs show {counted(others, 'other plane')}"
        return f"{blocks} blocks agree, {across:+.1f} px across and {down:+.1f} px down from the first map; {also}"

    def as_json(self) -> dict[str, Any]:
        chosen = at_plane(self.calibration, self.name)
        return {
            "plane": self.name,
            "matrix": chosen.matrix3().tolist(),
            "plane_distance_m": chosen.plane_distance_m,
            "planes": list(plane_names(self.calibration)),
            "blocks": None if self.found is None else self.found.blocks,
            "evidence": None if self.found is None else round(self.found.evidence, 1),
            "shown": [{"shift_px": list(p.shift_px), "blocks": p.blocks, "middle": list(p.middle)} for p in self.shown],
        }


def check_new(known: Calibration, place: Place, path: Path) -> None:
    """Raises :class:`OutputExistsError` where the file of a calibration has a plane of that name."""
    if place.name in plane_names(known):
        raise OutputExistsError(
            f"{path}: has a plane {place.name} already: replace it with --overwrite, or give another --name"
        )


def parse_place(text: str, name: str | None = None) -> Place:
    """``near``, ``far``, a distance such as ``5m``, or a region ``x,y,width,height`` (which needs a ``name``).

    Raises :class:`UsageError`.
    """
    if name is not None and not re.fullmatch(PLANE_NAME, name):
        raise UsageError(
            f"--name {name}: a name has letters, digits, '-', '_' and '.', and starts with a letter or digit"
        )
    ends: dict[str, Literal["near", "far"]] = {"near": "near", "far": "far"}
    if text in ends:
        return Place(name or text, ends[text])
    if "," in text:
        numbers = tuple(map(int, text.split(","))) if re.fullmatch(r"\d{1,5}(,\d{1,5}){3}", text) else ()
        if not numbers or min(numbers[2:]) < 1:
            raise UsageError(
                f"--at {text}: a region is x,y,width,height in pixels of the visible image: 120,80,200,160"
            )
        if name is None:
            raise UsageError(f"--at {text}: give the plane of a region a name: --name gate")
        return Place(name, region=(numbers[0], numbers[1], numbers[2], numbers[3]))
    try:
        distance_m = parse_length_m(text)
    except ValueError as error:
        raise UsageError(
            f"--at {text}: is neither near, far, a distance (5m) nor a region (x,y,width,height)"
        ) from error
    if distance_m <= 0:
        raise UsageError(f"--at {text}: a distance is more than 0")
    return Place(name or f"{distance_m:g}m", distance_m=distance_m)


def calibrate_plane(
    pairs: Sequence[ScenePair],
    place: Place,
    known: Calibration | None = None,
    hints: Hints | None = None,
    models: tuple[Model, ...] = MODELS,
    note: str | None = None,
    step: Step = lambda done, total, what: None,
) -> PlaneResult:
    """The map of a plane, as a calibration of its own or added to the ``known`` one of the rig.

    Raises :class:`UsageError` for pairs of other sizes and for a region outside of the image, :class:`FusepipeError`
    where the pairs do not show the plane, or not which it is.
    """
    hints = hints or Hints()
    _check_region(place, pairs)
    if known is not None and known.kind == "identity":
        raise UsageError("a calibration of kind identity has no planes: write to another file")
    if known is not None and known.has_depth and place.distance_m is not None:
        matrix = None if known.kind == "stereo" else known.matrix3(place.distance_m)
        return _added(known, place, matrix, None, [])
    if known is not None and known.kind == "stereo":
        raise UsageError(f"the calibration knows where the cameras are: give the distance of {place.name}, such as 5m")
    if known is None:
        shown = _from_nothing(pairs, place, hints, models, step)
    else:
        _check_sizes(known, pairs)
        step(50, 100, "searching for planes")
        shown = depth_planes(pairs, known.matrix3(), known.infrared_lens(), place.region)
        if not shown:
            raise FusepipeError(
                "nothing was written: the pairs do not agree with the calibration at any distance: they are of another "
                "rig, or show too little there"
            )
    found = _chosen(place, shown, known, pairs, hints)
    if known is not None:
        return _added(known, place, found.matrix, found, shown)
    made = Made(by="fusepipe calibrate scene", date=datetime.datetime.now(datetime.UTC).date(), note=note)
    matrix = found.matrix / found.matrix[2, 2]
    calibration = make_calibration(
        "homography" if np.abs(matrix[2, :2]).max() > 1e-12 else "affine",
        size_of(pairs[0].infrared),
        size_of(pairs[0].visible),
        matrix,
        made=made,
        quality={"blocks": found.blocks, "evidence": round(found.evidence, 1), "pairs": len(pairs)},
        plane_distance_m=place.distance_m or hints.distance_m,
        parallax_px_m=hints.parallax_px_m(size_of(pairs[0].visible)[0]),
    )
    return PlaneResult(place.name, calibration.model_copy(update={"plane": place.name}), found, shown, replaced=False)


def _added(
    known: Calibration, place: Place, matrix: Matrix3 | None, found: DepthPlane | None, shown: Sequence[DepthPlane]
) -> PlaneResult:
    replaced = place.name in plane_names(known)
    return PlaneResult(place.name, with_plane(known, place.name, matrix, place.distance_m), found, shown, replaced)


def _from_nothing(
    pairs: Sequence[ScenePair], place: Place, hints: Hints, models: tuple[Model, ...], step: Step
) -> list[DepthPlane]:
    """The planes that explain most of the pairs, from a map that may lean towards several planes and from one that may
    not.
    """
    tried, refusal = [], ""
    for part, chosen in enumerate((tuple(m for m in models if m in PLAIN), models)):
        result = register(pairs, hints.scales, chosen, explain=part == 1, step=partial(_step, step, part))
        refusal = result.refusal
        if not result.refusal and result.lens is None:
            shown = depth_planes(pairs, result.matrix, None, place.region)
            tried.append((sum(plane.evidence for plane in shown), shown))
    if not tried:
        raise FusepipeError(
            f"nothing was written: {refusal or 'the infrared lens bends: calibrate without --at first'}"
        )
    _, shown = max(tried, key=lambda one: one[0])
    if not shown:
        raise FusepipeError("nothing was written: too few blocks agree there; choose a larger region, or add pairs")
    return shown


def _step(step: Step, part: int, done: int, total: int, what: str) -> None:
    """Of the first or the second half of the work."""
    step((done + total * part) * 100 // (2 * total), 100, what)


def _chosen(
    place: Place,
    shown: Sequence[DepthPlane],
    known: Calibration | None,
    pairs: Sequence[ScenePair],
    hints: Hints,
) -> DepthPlane:
    width, height = size_of(pairs[0].visible)
    opposite = {"near": "far", "far": "near"}.get(place.end or "", "")
    if known is not None and opposite in plane_names(known):
        other = at_plane(known, opposite).matrix3()
        new = [p for p in shown if _apart(other, p.matrix, pairs) > SAME * width]
        if not new:
            raise FusepipeError(f"nothing was written: the pairs show nothing but the plane {opposite} of the file")
        if len(new) == 1:
            return new[0]
    if place.region is not None or len(shown) == 1:
        return shown[0]
    which = f"give --at x,y,width,height of {place.name} in the visible image"
    if place.distance_m is not None:
        raise FusepipeError(f"nothing was written: the pairs show {len(shown)} planes; {which}")
    away = hints.parallax_px_m(width) or (None if known is None else known.parallax_px_m)
    if away is not None:
        along = [float(np.dot(plane.shift_px, away)) for plane in shown]
        return shown[int(np.argmax(along) if place.end == "near" else np.argmin(along))]
    ordered = sorted(shown, key=lambda plane: plane.middle[1], reverse=place.end == "near")
    if abs(ordered[0].middle[1] - ordered[1].middle[1]) < LOWER * height:
        raise FusepipeError(
            f"nothing was written: the pairs show {len(shown)} planes, and not which is the {place.end} one: {which}, "
            "or the cameras' positions with --mount"
        )
    return ordered[0]


def _apart(one: Matrix3, other: Matrix3, pairs: Sequence[ScenePair]) -> float:
    return float(np.hypot(*plane_shift(one, other, pairs[0].infrared.shape)))


def _check_region(place: Place, pairs: Sequence[ScenePair]) -> None:
    if place.region is None:
        return
    width, height = size_of(pairs[0].visible)
    x, y, wide, high = place.region
    if x + wide > width or y + high > height:
        raise UsageError(f"--at {x},{y},{wide},{high}: is not inside the visible image of {width}x{height}")


def _check_sizes(known: Calibration, pairs: Sequence[ScenePair]) -> None:
    sizes = size_of(pairs[0].infrared), size_of(pairs[0].visible)
    if sizes != (known.infrared.size, known.visible.size):
        (a, b), (c, d), (e, f), (g, h) = *sizes, known.infrared.size, known.visible.size
        raise UsageError(f"the pairs are {a}x{b} and {c}x{d}, the calibration is for {e}x{f} and {g}x{h}")
