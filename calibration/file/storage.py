"""Calibration files: loaded with line numbers in every error, saved atomically."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from fusepipe.calibration.file.model import Calibration
from fusepipe.core.errors import OutputExistsError, SinkError
from fusepipe.core.files import write_text
from fusepipe.core.yaml_models import read_yaml, validate_model


def load_calibration(path: Path | str) -> Calibration:
    """Reads a calibration file.

    Raises :class:`ConfigError` whose lines start with ``file:line: key.path:`` and name the nearest
    valid key; a file that is larger than 1 MiB, not YAML or of another version is refused.
    """
    document = read_yaml(path, advice="make one with: fusepipe calibrate")
    return validate_model(Calibration, document)


def save_calibration(calibration: Calibration, path: Path | str, overwrite: bool = False) -> None:
    """Writes a calibration file that :func:`load_calibration` reads back equal.

    It is written atomically. Raises :class:`OutputExistsError` where the file exists and ``overwrite`` is false,
    :class:`SinkError` where it cannot be written.
    """
    save_text(calibration_text(calibration), Path(path), overwrite)


def save_text(text: str, path: Path, overwrite: bool = False) -> None:
    """Writes a text file atomically; raises as :func:`save_calibration`."""
    try:
        write_text(path, text, overwrite=overwrite)
    except FileExistsError as error:
        raise OutputExistsError(f"{path}: already exists; overwrite it explicitly or choose another name") from error
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error


def calibration_text(calibration: Calibration) -> str:
    """The calibration as the YAML text of its file."""
    dumped = calibration.model_dump(mode="json", exclude_none=True)
    content = CommentedMap(dumped)
    for key in ("infrared", "visible"):
        camera = CommentedMap({"size": _row(dumped[key]["size"])})
        if "lens" in dumped[key]:
            lens = dumped[key]["lens"]
            camera["lens"] = CommentedMap({k: _row(v) if isinstance(v, list) else v for k, v in lens.items()})
        else:
            camera.fa.set_flow_style()
        content[key] = camera
    if calibration.matrix is not None:
        content["matrix"] = CommentedSeq(_row(row) for row in calibration.matrix)
        content.yaml_set_comment_before_after_key("matrix", before="infrared pixel (x, y, 1) -> visible pixel")
    if calibration.pose is not None:
        rotation = CommentedSeq(_row(row) for row in calibration.pose.rotation)
        pose = CommentedMap({"rotation": rotation, "translation_m": _row(calibration.pose.translation_m)})
        content["pose"] = pose
        content.yaml_set_comment_before_after_key("pose", before="X_visible = rotation X_infrared + translation")
    if calibration.parallax_px_m is not None:
        content["parallax_px_m"] = _row(calibration.parallax_px_m)
    for name, plane in (calibration.planes or {}).items():
        if plane.matrix is not None:
            content["planes"][name] = CommentedMap(
                {**dumped["planes"][name], "matrix": CommentedSeq(_row(row) for row in plane.matrix)}
            )
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # a wrapped row of a matrix is hard to read
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _row(values: Any) -> CommentedSeq:
    # plain numbers: a NumPy float is a float to pydantic, but not to the writer
    row = CommentedSeq(v if isinstance(v, int) else float(v) for v in values)
    row.fa.set_flow_style()
    return row
