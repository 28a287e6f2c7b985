"""Calibration files: human-readable YAML, versioned, checked with line numbers.

::

    fusepipe_calibration: 1
    kind: affine                      # identity, affine or homography
    infrared: {size: [320, 240]}      # the sizes the matrix was made at, [width, height]
    visible: {size: [640, 480]}
    matrix:                           # infrared pixel (x, y, 1) -> visible pixel
    - [1.9, 0.0, 12.5]
    - [0.0, 1.9, 8.0]
    made: {by: fusepipe calibrate board, date: 2026-05-01, note: roof, north side}
    quality: {reprojection_rms_px: 0.4}
"""

from __future__ import annotations

import datetime
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from fusepipe.calibration.matrix import MAX_SIDE_PX, Matrix3, Size, check_matrix, scaling
from fusepipe.config.yaml_lines import read_yaml, validate_model
from fusepipe.errors import OutputExistsError, SinkError, UsageError

FORMAT_VERSION = 1

Kind = Literal["identity", "affine", "homography"]
_ROWS: Mapping[str, int] = {"affine": 2, "homography": 3}

# strict: neither "640" nor true is a number
Pixel = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE_PX)]
Number = Annotated[float, Field(strict=True)]


class _Model(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CameraImage(_Model):
    """What one camera delivered when the calibration was made."""

    size: tuple[Pixel, Pixel] = Field(description="[width, height] in pixels.")

    @field_validator("size", mode="before")
    @classmethod
    def _two(cls, size: Any) -> Any:
        # pydantic would say of [320] that something is missing, but not what
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise ValueError("should be [width, height] in pixels")
        return size


class Made(_Model):
    """Where a calibration comes from; for people, never interpreted."""

    by: str | None = Field(default=None, description="The command or the person that made it.")
    date: datetime.date | None = Field(default=None, description="The day, 2026-05-01.")
    note: str | None = Field(default=None, description="Anything worth knowing.")


class Calibration(_Model):
    """How the infrared picture lies in the visible one."""

    fusepipe_calibration: int = Field(description="The version of the file format, 1.")
    kind: Kind = Field(description="identity (both see exactly the same, at any size), affine or homography.")
    infrared: CameraImage = Field(description="The infrared images that the matrix was made with.")
    visible: CameraImage = Field(description="The visible images that the matrix was made with.")
    matrix: tuple[tuple[Number, ...], ...] | None = Field(
        default=None,
        validate_default=True,
        description="Rows of three numbers, 2 for affine, 3 for a homography, none for identity: takes an infrared "
        "pixel (x, y, 1) to a visible pixel, the centre of the first pixel at (0, 0).",
    )
    made: Made | None = Field(default=None, description="Where it comes from.")
    quality: dict[str, float | str] | None = Field(
        default=None, description="Figures or words under any names, such as reprojection_rms_px."
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
        if kind == "identity":
            if matrix is not None:
                raise ValueError("kind identity has no matrix; remove it, or write kind: affine or homography")
            return None
        if matrix is None:
            raise PydanticCustomError("missing", "is missing")
        if len(matrix) != _ROWS[kind] or any(len(row) != 3 for row in matrix):
            raise ValueError(f"should be {_ROWS[kind]} rows of 3 numbers for kind {kind}")
        if "infrared" in known and "visible" in known:
            try:
                check_matrix(matrix, known["infrared"].size, known["visible"].size)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return matrix

    def matrix3(self) -> Matrix3:
        """3x3 float64: an infrared pixel (x, y, 1) to a visible pixel, at the sizes of the file."""
        if self.matrix is None:
            return scaling(self.infrared.size, self.visible.size)
        rows = np.array(self.matrix, dtype=np.float64)
        return rows if len(rows) == 3 else np.vstack([rows, [0.0, 0.0, 1.0]])


def make_calibration(
    kind: Kind,
    infrared_size: Size,
    visible_size: Size,
    matrix: ArrayLike | None = None,
    *,
    made: Made | None = None,
    quality: Mapping[str, float | str] | None = None,
) -> Calibration:
    """A calibration from numbers: ``matrix`` 3x3 or 2x3, infrared to visible pixel, sizes (width, height).

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
    try:
        return Calibration.model_validate(
            {
                "fusepipe_calibration": FORMAT_VERSION,
                "kind": kind,
                "infrared": {"size": infrared_size},
                "visible": {"size": visible_size},
                "matrix": rows,
                "made": made,
                "quality": quality,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"no calibration can be made: {place}: {first['msg'].removeprefix('Value error, ')}"
        ) from error


def load_calibration(path: Path | str) -> Calibration:
    """Reads a calibration file.

    Raises :class:`ConfigError` whose lines start with ``file:line: key.path:`` and name the nearest
    valid key; a file that is larger than 1 MiB, not YAML or of another version is refused.
    """
    document = read_yaml(path, advice="make one with: fusepipe calibrate")
    return validate_model(Calibration, document)


def save_calibration(calibration: Calibration, path: Path | str, overwrite: bool = False) -> None:
    """Writes a calibration file that :func:`load_calibration` reads back equal.

    The file appears whole or not at all: a temporary file beside it is renamed. Raises
    :class:`OutputExistsError` where the file is there and ``overwrite`` is false, :class:`SinkError`
    where it cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: is there already; overwrite it explicitly or choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(calibration_text(calibration))
            stream.flush()
            # without it a power failure after the rename can leave an empty file
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SinkError(f"{path}: the calibration cannot be written: {error.strerror or error}") from error


def calibration_text(calibration: Calibration) -> str:
    """The calibration as the YAML text of its file."""
    content = CommentedMap(calibration.model_dump(mode="json", exclude_none=True))
    for key in ("infrared", "visible"):
        content[key] = _in_one_line({"size": _row(calibration.model_dump()[key]["size"])})
    if calibration.matrix is not None:
        content["matrix"] = CommentedSeq(_row(row) for row in calibration.matrix)
        content.yaml_set_comment_before_after_key("matrix", before="infrared pixel (x, y, 1) -> visible pixel")
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # a wrapped row of a matrix is hard to read
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _in_one_line(values: Mapping[str, Any]) -> CommentedMap:
    line = CommentedMap(values)
    line.fa.set_flow_style()
    return line


def _row(values: Any) -> CommentedSeq:
    # plain numbers: a NumPy float is a float to pydantic, but not to the writer
    row = CommentedSeq(v if isinstance(v, int) else float(v) for v in values)
    row.fa.set_flow_style()
    return row
