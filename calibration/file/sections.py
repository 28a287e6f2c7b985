"""The parts of a calibration file: a camera's image size and lens, and the pose of the cameras."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fusepipe.calibration.lens import LensModel
from fusepipe.calibration.matrix import MAX_SIDE_PX

# strict: neither "640" nor true is a number
Pixel = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE_PX)]
Number = Annotated[float, Field(strict=True)]


class FileModel(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LensFields(FileModel):
    """A camera's lens, as OpenCV writes it; pixels are those of the camera's ``size``."""

    model: LensModel = Field(default="pinhole", description="pinhole or fisheye.")
    focal: tuple[Number, Number] = Field(description="[fx, fy], focal lengths in pixels.")
    centre: tuple[Number, Number] = Field(description="[cx, cy], where the optical axis meets the image.")
    distortion: tuple[Number, ...] = Field(
        default=(), description="pinhole: k1, k2, p1, p2, k3 and so on; fisheye: k1 to k4; empty: none."
    )


class CameraImage(FileModel):
    """What one camera delivered when the calibration was made."""

    size: tuple[Pixel, Pixel] = Field(description="[width, height] in pixels.")
    lens: LensFields | None = Field(
        default=None, description="Its lens; needed for kind stereo, and of the infrared camera for homography+lens."
    )

    @field_validator("size", mode="before")
    @classmethod
    def _two(cls, size: Any) -> Any:
        # pydantic's own message for [320] does not say what is missing
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise ValueError("should be [width, height] in pixels")
        return size


class PlaneFields(FileModel):
    """The map of another distance than that of the file's own matrix."""

    matrix: tuple[tuple[Number, ...], ...] | None = Field(
        default=None, description="As that of the file, for this plane; none for kind stereo."
    )
    plane_distance_m: Annotated[float, Field(strict=True, gt=0)] | None = Field(
        default=None, description="Its distance from the visible camera, if it is known; needed for kind stereo."
    )


class PoseFields(FileModel):
    """The pose of the infrared camera: X_visible = rotation X_infrared + translation, x right, y down, z forward."""

    rotation: tuple[tuple[Number, Number, Number], ...] = Field(description="Three rows of three numbers.")
    translation_m: tuple[Number, Number, Number] = Field(description="In metres.")

    @field_validator("rotation")
    @classmethod
    def _turns(cls, rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        matrix = np.array(rows)
        if matrix.shape != (3, 3) or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3):
            raise ValueError("should be a rotation matrix: three rows of three numbers")
        if np.linalg.det(matrix) < 0:
            raise ValueError("is a reflection, not a rotation; one of the cameras was mirrored")
        return rows
