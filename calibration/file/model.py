"""What a calibration holds, as a typed model: its file is the same as human-readable YAML.

::

    fusepipe_calibration: 1
    kind: affine                      # identity, affine, homography, homography+lens or stereo
    infrared: {size: [320, 240]}      # the sizes the matrix was made at, [width, height]
    visible: {size: [640, 480]}
    matrix:                           # infrared pixel (x, y, 1) -> visible pixel
    - [1.9, 0.0, 12.5]
    - [0.0, 1.9, 8.0]
    made: {by: fusepipe calibrate board, date: 2026-05-01, note: roof, north side}
    quality: {reprojection_rms_px: 0.4}

A calibration with lenses and the cameras' pose is of kind ``stereo``: it has no matrix but supports any
plane distance. Its ``infrared`` and ``visible`` have a ``lens``, and it has a ``pose``. Of kind
``homography+lens`` ``infrared`` has a ``lens``, and the matrix takes pixels without its distortion.
``planes`` has the maps of other distances by name, see :mod:`fusepipe.calibration.file.named_planes`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from fusepipe.calibration.board.stereo import Pose, plane_homography
from fusepipe.calibration.file.sections import CameraImage, FileModel, Number, PlaneFields, PoseFields
from fusepipe.calibration.lens import Lens
from fusepipe.calibration.matrix import Matrix3, check_matrix, scaling
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Size

FORMAT_VERSION = 1

Kind = Literal["identity", "affine", "homography", "homography+lens", "stereo"]
_ROWS: Mapping[str, int] = {"affine": 2, "homography": 3, "homography+lens": 3}
_LENSES: Mapping[str, tuple[str, ...]] = {"stereo": ("infrared", "visible"), "homography+lens": ("infrared",)}


PLANE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
PlaneName = Annotated[str, Field(pattern=PLANE_NAME)]


class Made(FileModel):
    """The origin of a calibration; informative, never interpreted."""

    by: str | None = Field(default=None, description="The command or person that made it.")
    date: datetime.date | None = Field(default=None, description="The day, 2026-05-01.")
    note: str | None = Field(default=None, description="Free text.")


class Calibration(FileModel):
    """The mapping from infrared to visible pixels."""

    fusepipe_calibration: int = Field(description="The version of the file format, 1.")
    kind: Kind = Field(
        description="identity (both cameras have the same field of view, at any size), affine, homography, "
        "homography+lens or stereo."
    )
    infrared: CameraImage = Field(description="The infrared images that the matrix was made with.")
    visible: CameraImage = Field(description="The visible images that the matrix was made with.")
    matrix: tuple[tuple[Number, ...], ...] | None = Field(
        default=None,
        validate_default=True,
        description="Rows of three numbers, 2 for affine, 3 for a homography, none for identity: takes an infrared "
        "pixel (x, y, 1) (of homography+lens: without the lens's distortion) to a visible pixel, the centre of the "
        "first pixel at (0, 0).",
    )
    pose: PoseFields | None = Field(
        default=None,
        validate_default=True,
        description="Of kind stereo: the pose of the cameras relative to each other.",
    )
    plane_distance_m: Annotated[float, Field(strict=True, gt=0)] | None = Field(
        default=None,
        validate_default=True,
        description="The distance from the visible camera at which the images are aligned; for kind stereo "
        "the default for rigs that set none.",
    )
    parallax_px_m: tuple[Number, Number] | None = Field(
        default=None,
        description="Of kinds with a matrix: by how many visible pixels, [x, y], times metres the infrared image "
        "moves as 1/distance grows (focal length times distance of the cameras).",
    )
    plane: PlaneName | None = Field(
        default=None,
        description="The name of the plane that the file's own matrix, or its plane_distance_m, holds for.",
    )
    planes: dict[PlaneName, PlaneFields] | None = Field(
        default=None, description="The maps of other planes by name, such as near: a rig chooses one."
    )
    made: Made | None = Field(default=None, description="Its origin.")
    quality: dict[str, int | float | str] | None = Field(
        default=None, description="Free figures or words, such as reprojection_rms_px."
    )

    @field_validator("fusepipe_calibration", mode="before")
    @classmethod
    def _known_version(cls, version: Any) -> Any:
        if version != FORMAT_VERSION or isinstance(version, bool | float):
            raise ValueError(
                f"this fusepipe reads version {FORMAT_VERSION} of the format; update fusepipe for a higher one, "
                f"or calibrate again"
            )
        return version

    @field_validator("matrix")
    @classmethod
    def _fits_its_kind(
        cls, matrix: tuple[tuple[float, ...], ...] | None, info: ValidationInfo
    ) -> tuple[tuple[float, ...], ...] | None:
        known = info.data
        if "kind" not in known:
            return matrix
        kind = known["kind"]
        if kind in ("identity", "stereo"):
            if matrix is not None:
                raise ValueError(f"kind {kind} has no matrix; remove it, or write kind: affine or homography")
            return None
        if matrix is None:
            raise PydanticCustomError("missing", "is missing")
        _check_rows(matrix, known)
        return matrix

    @field_validator("infrared", "visible")
    @classmethod
    def _has_its_lens(cls, camera: CameraImage, info: ValidationInfo) -> CameraImage:
        kind = info.data.get("kind")
        name = info.field_name
        if kind is None or name is None or (camera.lens is not None) == (name in _LENSES.get(kind, ())):
            return camera
        if camera.lens is None:
            raise ValueError(f"kind {kind} needs {name}.lens as well")
        has = "only the infrared camera's lens" if kind == "homography+lens" else "no lens"
        raise ValueError(f"kind {kind} has {has}; remove {name}.lens, or write the kind of the file")

    @field_validator("pose")
    @classmethod
    def _stereo_has_all(cls, pose: PoseFields | None, info: ValidationInfo) -> PoseFields | None:
        known = info.data
        if known.get("kind") == "stereo":
            if pose is None:
                raise PydanticCustomError("missing", "is missing")
        elif pose is not None and "kind" in known:
            raise ValueError(f"kind {known['kind']} has no pose; write kind: stereo")
        return pose

    @field_validator("plane_distance_m")
    @classmethod
    def _stereo_has_a_distance(cls, distance: float | None, info: ValidationInfo) -> float | None:
        if distance is None and info.data.get("kind") == "stereo":
            raise PydanticCustomError("missing", "is missing")
        return distance

    @field_validator("parallax_px_m")
    @classmethod
    def _parallax_of_what(cls, parallax: tuple[float, float] | None, info: ValidationInfo) -> Any:
        known = info.data
        if parallax is not None and (known.get("matrix") is None or known.get("plane_distance_m") is None):
            raise ValueError("needs a matrix and the plane_distance_m that the matrix holds for")
        return parallax

    @field_validator("planes")
    @classmethod
    def _planes_fit_the_kind(
        cls, planes: dict[str, PlaneFields] | None, info: ValidationInfo
    ) -> dict[str, PlaneFields] | None:
        known = info.data
        kind = known.get("kind")
        for name, plane in (planes or {}).items():
            if kind is None:
                continue
            if name == known.get("plane"):
                raise ValueError(f"{name} is the file's own plane already; give this one another name")
            if kind == "identity":
                raise ValueError(f"kind identity has no planes, {name} included; write kind: affine or homography")
            if kind == "stereo":
                if plane.matrix is not None or plane.plane_distance_m is None:
                    raise ValueError(f"{name} needs a plane_distance_m and no matrix, since the kind is stereo")
            elif plane.matrix is None:
                raise ValueError(f"{name} needs a matrix, since the kind is {kind}")
            else:
                try:
                    _check_rows(plane.matrix, known)
                except ValueError as error:
                    raise ValueError(f"{name}: its matrix: {error}") from error
        return planes

    @property
    def has_depth(self) -> bool:
        """Whether it supports other plane distances than its own."""
        return self.kind == "stereo" or self.parallax_px_m is not None

    def lenses(self) -> tuple[Lens, Lens]:
        """(infrared, visible) of kind stereo."""
        infrared, visible = (_lens(camera) for camera in (self.infrared, self.visible))
        if infrared is None or visible is None:
            raise UsageError(f"a calibration of kind {self.kind} has no lenses")
        return infrared, visible

    def infrared_lens(self) -> Lens | None:
        """That of kind ``homography+lens``: its matrix takes pixels without this distortion. Others: none."""
        return _lens(self.infrared) if self.kind == "homography+lens" else None

    def rig_pose(self) -> Pose:
        """The pose of kind stereo."""
        if self.pose is None:
            raise UsageError(f"a calibration of kind {self.kind} has no pose")
        return Pose(np.array(self.pose.rotation, np.float64), np.array(self.pose.translation_m, np.float64))

    def matrix3(self, plane_distance_m: float | None = None) -> Matrix3:
        """3x3 float64: an infrared pixel (x, y, 1) to a visible pixel, at the sizes of the file.

        For points of the plane at ``plane_distance_m`` from the visible camera (default: the file's). Of
        the kinds with lenses it leaves the lenses' distortion out. Raises :class:`UsageError` for a distance that
        the calibration does not support.
        """
        distance = plane_distance_m or self.plane_distance_m
        if self.kind == "stereo":
            assert distance is not None
            return plane_homography(*self.lenses(), self.rig_pose(), distance)
        if self.matrix is None:
            matrix = scaling(self.infrared.size, self.visible.size)
        else:
            rows = np.array(self.matrix, dtype=np.float64)
            matrix = rows if len(rows) == 3 else np.vstack([rows, [0.0, 0.0, 1.0]])
        if plane_distance_m is None or plane_distance_m == self.plane_distance_m:
            return matrix
        if self.parallax_px_m is None or self.plane_distance_m is None:
            raise UsageError(
                f"a calibration of kind {self.kind} without parallax_px_m holds for one distance only and cannot be "
                f"moved to {plane_distance_m:g} m: calibrate with 'fusepipe calibrate board', or with 'fusepipe "
                "calibrate scene' and --mount, --fov-infrared, --fov-visible and --plane-distance"
            )
        by = 1.0 / plane_distance_m - 1.0 / self.plane_distance_m
        shift = np.eye(3)
        shift[:2, 2] = np.array(self.parallax_px_m) * by
        return np.asarray(shift @ matrix, np.float64)


def _check_rows(matrix: tuple[tuple[float, ...], ...], known: Mapping[str, Any]) -> None:
    """Raises ValueError where the rows do not fit the ``known`` kind, or the sizes of the images."""
    kind = known["kind"]
    if len(matrix) != _ROWS[kind] or any(len(row) != 3 for row in matrix):
        raise ValueError(f"should be {_ROWS[kind]} rows of 3 numbers for kind {kind}")
    if "infrared" in known and "visible" in known:
        try:
            check_matrix(matrix, known["infrared"].size, known["visible"].size)
        except UsageError as error:
            raise ValueError(str(error)) from error


def _lens(camera: CameraImage) -> Lens | None:
    lens = camera.lens
    if lens is None:
        return None
    return Lens(camera.size, *lens.focal, *lens.centre, tuple(lens.distortion), lens.model)


def make_calibration(
    kind: Kind,
    infrared_size: Size,
    visible_size: Size,
    matrix: ArrayLike | None = None,
    *,
    made: Made | None = None,
    quality: Mapping[str, float | str] | None = None,
    plane_distance_m: float | None = None,
    parallax_px_m: tuple[float, float] | None = None,
    infrared_lens: Lens | None = None,
) -> Calibration:
    """A calibration from numbers: ``matrix`` 3x3 or 2x3, infrared to visible pixel, sizes (width, height).

    ``infrared_lens`` is that of kind ``homography+lens``.
    The matrix of kind ``affine`` may be given as 3x3 with the last row (0, 0, w). A homography is
    stored with its last number 1 where that is not 0. Raises :class:`UsageError` for what a file could
    not hold either.
    """
    rows = None
    if matrix is not None:
        m = np.asarray(matrix, dtype=np.float64)
        if m.shape == (3, 3) and m[2, 2] != 0:
            m = m / m[2, 2]
            if kind == "affine" and not m[2, :2].any():
                m = m[:2]
        rows = m.tolist()
    return checked_calibration(
        {
            "kind": kind,
            "infrared": {"size": infrared_size} if infrared_lens is None else _camera_fields(infrared_lens),
            "visible": {"size": visible_size},
            "matrix": rows,
            "plane_distance_m": plane_distance_m,
            "parallax_px_m": parallax_px_m,
            "made": made,
            "quality": quality,
        }
    )


def make_stereo_calibration(
    infrared: Lens,
    visible: Lens,
    pose: Pose,
    plane_distance_m: float,
    *,
    made: Made | None = None,
    quality: Mapping[str, float | str] | None = None,
) -> Calibration:
    """A calibration for any plane distance; raises :class:`UsageError` for impossible numbers."""
    return checked_calibration(
        {
            "kind": "stereo",
            "infrared": _camera_fields(infrared),
            "visible": _camera_fields(visible),
            "pose": {"rotation": pose.rotation.tolist(), "translation_m": pose.translation_m.tolist()},
            "plane_distance_m": float(plane_distance_m),
            "made": made,
            "quality": quality,
        }
    )


def _camera_fields(lens: Lens) -> dict[str, Any]:
    numbers = {
        "focal": (float(lens.fx), float(lens.fy)),
        "centre": (float(lens.cx), float(lens.cy)),
        "distortion": tuple(float(d) for d in lens.distortion),
    }
    return {"size": lens.size, "lens": {"model": lens.model, **numbers}}


def checked_calibration(content: Mapping[str, Any]) -> Calibration:
    """A calibration from the values of its keys; raises :class:`UsageError` for what a file could not hold either."""
    try:
        return Calibration.model_validate({"fusepipe_calibration": FORMAT_VERSION, **content})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"invalid calibration: {key}: {first['msg'].removeprefix('Value error, ')}") from error
