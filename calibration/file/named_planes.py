"""The planes of a calibration file: maps of one rig for several distances, by name.

::

    plane: far                        # of the file's own matrix
    planes:
      near:
        matrix: [...]                 # kinds with a matrix
        plane_distance_m: 5.0         # kind stereo: this only
"""

from __future__ import annotations

from typing import Any

from fusepipe.calibration.file.model import Calibration, checked_calibration
from fusepipe.calibration.matrix import Matrix3
from fusepipe.core.errors import UsageError


def plane_names(calibration: Calibration) -> tuple[str, ...]:
    """The names of all planes, that of the file's own map first if it has one."""
    own = () if calibration.plane is None else (calibration.plane,)
    return (*own, *(calibration.planes or {}))


def at_plane(calibration: Calibration, name: str | None) -> Calibration:
    """The calibration with one plane's map as its own, and no other planes; ``None`` is the file's own.

    Raises :class:`UsageError` for a name that it does not have.
    """
    if name is None or name == calibration.plane:
        return _replaced(calibration, planes=None)
    planes = calibration.planes or {}
    if name not in planes:
        names = plane_names(calibration)
        has = f"has the planes {', '.join(names)}" if names else "has no named planes"
        raise UsageError(f"plane: the calibration {has}, not {name!r}; add it with 'fusepipe calibrate scene --at'")
    plane = planes[name]
    changes: dict[str, Any] = {"plane": name, "planes": None, "plane_distance_m": plane.plane_distance_m}
    if calibration.kind != "stereo":
        changes |= {"matrix": plane.matrix, "quality": None}
        if plane.plane_distance_m is None:
            changes["parallax_px_m"] = None  # moves a matrix from one known distance to another
    return _replaced(calibration, **changes)


def with_plane(calibration: Calibration, name: str, matrix: Matrix3 | None, distance_m: float | None) -> Calibration:
    """The calibration with a plane added or replaced; the others are kept.

    ``matrix`` is 3x3, infrared to visible pixel at the sizes of the file; ``None`` for kind ``stereo``. A homography
    makes a calibration of kind ``affine`` one of kind ``homography``. Raises :class:`UsageError` for impossible values.
    """
    kind = calibration.kind
    maps: dict[str, Any] = {n: (p.matrix, p.plane_distance_m) for n, p in (calibration.planes or {}).items()}
    own = calibration.matrix
    if matrix is not None:
        rows = matrix / matrix[2, 2]
        if kind == "affine" and rows[2, :2].any():
            kind = "homography"
            own = None if own is None else _three(own)
            maps = {n: (_three(m), d) for n, (m, d) in maps.items()}
        added: Any = tuple(map(tuple, (rows if kind != "affine" else rows[:2]).tolist()))
    else:
        added = None
    changes: dict[str, Any] = {"kind": kind, "matrix": own}
    if name == calibration.plane:
        changes |= {"matrix": added, "plane_distance_m": distance_m, "quality": None}
        if distance_m is None:
            changes["parallax_px_m"] = None
    else:
        maps[name] = (added, distance_m)
    if maps:
        changes["planes"] = {n: {"matrix": m, "plane_distance_m": d} for n, (m, d) in maps.items()}
    return _replaced(calibration, **changes)


def _three(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    return (*rows, (0.0, 0.0, 1.0))


def _replaced(calibration: Calibration, **changes: Any) -> Calibration:
    kept = calibration.model_dump(exclude={"fusepipe_calibration"})
    return checked_calibration({**kept, **changes})
