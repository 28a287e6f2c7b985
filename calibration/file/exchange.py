"""Calibrations from and to other programs: OpenCV's stereo files and kalibr's camera chains.

OpenCV (``cv::FileStorage``): K1, D1, K2, D2, R, T, with ``X2 = R X1 + T``, and image sizes where they are
written. kalibr (https://github.com/ethz-asl/kalibr/wiki/yaml-formats): cam0, cam1 with ``T_cn_cnm1``, the
4x4 matrix from the camera before to this one. Both are read by a safe YAML reader; none runs code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError

from fusepipe.calibration.board.stereo import MAX_BASELINE_M, Pose
from fusepipe.calibration.file.model import Calibration, Made, make_stereo_calibration
from fusepipe.calibration.file.storage import load_calibration
from fusepipe.calibration.lens import Lens, LensModel
from fusepipe.core.errors import SourceError, UsageError

Format = Literal["fusepipe", "opencv", "kalibr"]
LengthUnit = Literal["m", "cm", "mm"]
UNITS_M: Mapping[LengthUnit, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}
MAX_BYTES = 1 << 20
_NAMES = {
    "K1": ("K1", "M1", "cameraMatrix1", "camera_matrix_1", "cameraMatrixL"),
    "D1": ("D1", "distCoeffs1", "distortion_coefficients_1", "distCoeffsL"),
    "K2": ("K2", "M2", "cameraMatrix2", "camera_matrix_2", "cameraMatrixR"),
    "D2": ("D2", "distCoeffs2", "distortion_coefficients_2", "distCoeffsR"),
    "R": ("R",),
    "T": ("T",),
}


def detect_format(path: Path) -> Format:
    """Which format a file is in, by its content; raises :class:`SourceError`."""
    text = _text(path)
    if re.search(r"^fusepipe_calibration\s*:", text, re.MULTILINE):
        return "fusepipe"
    if re.search(r"^cam[01]\s*:", text, re.MULTILINE):
        return "kalibr"
    if text.startswith("%YAML") or "opencv-matrix" in text:
        return "opencv"
    raise SourceError(f"{path}: is neither fusepipe's, OpenCV's nor kalibr's YAML")


def read(
    path: Path,
    kind: Format,
    plane_distance_m: float | None,
    infrared_camera: int = 0,
    unit: LengthUnit | None = None,
) -> Calibration:
    """A calibration of any of the formats.

    ``infrared_camera`` says which of two cameras is the infrared one. OpenCV's and kalibr's files
    hold no plane distance: it has to be given. ``unit`` is that of their translation; ``None`` means metres, unless
    the cameras would then be more than ``MAX_BASELINE_M`` apart. Raises :class:`SourceError` and :class:`UsageError`.
    """
    if kind == "fusepipe":
        if unit is not None:
            raise UsageError(f"{path}: fusepipe's calibration files are in metres; remove --unit")
        return load_calibration(path)
    if plane_distance_m is None:
        raise UsageError(f"{path}: has no plane distance; give it with --plane-distance, such as 30m")
    cameras, pose = (_opencv if kind == "opencv" else _kalibr)(_load(path), path)
    pose = _in_metres(pose, unit, path)
    if infrared_camera == 1:
        cameras = cameras[1], cameras[0]
        pose = Pose(pose.rotation.T, -pose.rotation.T @ pose.translation_m)
    made = Made(by="fusepipe calibrate convert", note=f"from {kind}: {path.name}")
    return make_stereo_calibration(cameras[0], cameras[1], pose, plane_distance_m, made=made)


def opencv_text(calibration: Calibration) -> str:
    """OpenCV's FileStorage YAML; camera 1 is the infrared one."""
    (infrared, visible), pose = _stereo(calibration)
    parts = [
        "%YAML:1.0\n---",
        *(f"image_width{n}: {c.size[0]}\nimage_height{n}: {c.size[1]}" for n, c in ((1, infrared), (2, visible))),
        *(f"model{n}: {c.model}" for n, c in ((1, infrared), (2, visible))),
    ]
    for name, value in (
        ("K1", infrared.matrix),
        ("D1", np.array([infrared.distortion or (0.0,) * 4])),
        ("K2", visible.matrix),
        ("D2", np.array([visible.distortion or (0.0,) * 4])),
        ("R", pose.rotation),
        ("T", pose.translation_m.reshape(3, 1)),
    ):
        numbers = ", ".join(repr(float(v)) for v in value.ravel())
        rows, columns = value.shape
        parts.append(f"{name}: !!opencv-matrix\n   rows: {rows}\n   cols: {columns}\n   dt: d\n   data: [ {numbers} ]")
    return "\n".join(parts) + "\n"


def _stereo(calibration: Calibration) -> tuple[tuple[Lens, Lens], Pose]:
    if calibration.kind != "stereo":
        raise UsageError(
            "OpenCV's and kalibr's files hold two lenses and the pose of the cameras, which a calibration of kind "
            f"{calibration.kind} does not have: make one with 'fusepipe calibrate board'"
        )
    return calibration.lenses(), calibration.rig_pose()


def kalibr_text(calibration: Calibration) -> str:
    """kalibr's camera chain; cam0 is the infrared one. Raises :class:`UsageError` for a distortion it lacks."""
    (infrared, visible), pose = _stereo(calibration)
    text = ""
    for number, lens in enumerate((infrared, visible)):
        d = list(lens.distortion) or [0.0] * 4
        if lens.model == "pinhole" and any(abs(v) > 1e-12 for v in d[4:]):
            raise UsageError(
                "kalibr's radtan model has only k1, k2, p1 and p2, and this lens has k3: the corners would be distorted"
            )
        text += (
            f"cam{number}:\n  camera_model: pinhole\n"
            f"  intrinsics: [{lens.fx!r}, {lens.fy!r}, {lens.cx!r}, {lens.cy!r}]\n"
            f"  distortion_model: {'equidistant' if lens.model == 'fisheye' else 'radtan'}\n"
            f"  distortion_coeffs: [{', '.join(repr(float(v)) for v in d[:4])}]\n"
            f"  resolution: [{lens.size[0]}, {lens.size[1]}]\n"
        )
        if number == 1:
            rows = np.vstack([np.column_stack([pose.rotation, pose.translation_m]), [0, 0, 0, 1]])
            text += "  T_cn_cnm1:\n" + "".join(f"  - [{', '.join(repr(float(v)) for v in row)}]\n" for row in rows)
    return text


def _opencv(content: Mapping[str, Any], path: Path) -> tuple[tuple[Lens, Lens], Pose]:
    found = {key: _opencv_matrix(content, names, path) for key, names in _NAMES.items()}
    lenses = []
    for number in (1, 2):
        k, d = found[f"K{number}"], found[f"D{number}"].ravel()
        model: LensModel = "fisheye" if content.get(f"model{number}") == "fisheye" else "pinhole"
        size = _opencv_size(content, number)
        if size is None:  # the principal point is near the middle
            raise SourceError(
                f"{path}: has no image size for camera {number}; add image_width{number} and image_height{number}"
            )
        lenses.append(_lens(path, number, size, k[0, 0], k[1, 1], k[0, 2], k[1, 2], d.tolist(), model))
    return (lenses[0], lenses[1]), _pose(found["R"], found["T"].ravel(), path)


def _opencv_size(content: Mapping[str, Any], number: int) -> tuple[int, int] | None:
    for width, height in ((f"image_width{number}", f"image_height{number}"), ("image_width", "image_height")):
        if isinstance(content.get(width), int) and isinstance(content.get(height), int):
            return content[width], content[height]
    return None


def _opencv_matrix(content: Mapping[str, Any], names: Sequence[str], path: Path) -> NDArray[np.float64]:
    for name in names:
        value = content.get(name)
        if isinstance(value, Mapping) and {"rows", "cols", "data"} <= set(value):
            try:
                return np.array(value["data"], np.float64).reshape(int(value["rows"]), int(value["cols"]))
            except (TypeError, ValueError) as error:
                raise SourceError(f"{path}: {name} is not a matrix: {error}") from error
    raise SourceError(f"{path}: has no matrix {names[0]} (looked for {', '.join(names)})")


def _kalibr(content: Mapping[str, Any], path: Path) -> tuple[tuple[Lens, Lens], Pose]:
    lenses = []
    for number in (0, 1):
        camera = content.get(f"cam{number}")
        if not isinstance(camera, Mapping):
            raise SourceError(f"{path}: has no cam{number}; a rig has two cameras")
        distortion = camera.get("distortion_model", "none")
        if camera.get("camera_model") != "pinhole" or distortion not in ("radtan", "equidistant", "none"):
            raise SourceError(
                f"{path}: cam{number} is {camera.get('camera_model')} with {distortion}; pinhole with radtan, "
                "equidistant or none can be read"
            )
        model: LensModel = "fisheye" if distortion == "equidistant" else "pinhole"
        try:
            fx, fy, cx, cy = (float(v) for v in camera["intrinsics"])
            width, height = (int(v) for v in camera["resolution"])
            coefficients = [float(v) for v in camera.get("distortion_coeffs", [])]
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{path}: cam{number}: {error} is missing or not a number") from error
        lenses.append(_lens(path, number, (width, height), fx, fy, cx, cy, coefficients, model))
    transform = content["cam1"].get("T_cn_cnm1")
    try:
        matrix = np.array(transform, np.float64).reshape(4, 4)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{path}: cam1 has no 4x4 matrix T_cn_cnm1") from error
    return (lenses[0], lenses[1]), _pose(matrix[:3, :3], matrix[:3, 3], path)


def _lens(
    path: Path,
    number: int,
    size: tuple[int, int],
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    d: list[float],
    model: LensModel,
) -> Lens:
    try:
        return Lens(size, fx, fy, cx, cy, tuple(d), model)
    except UsageError as error:
        raise SourceError(f"{path}: camera {number}: {error}") from error


def _pose(rotation: NDArray[np.float64], translation: NDArray[np.float64], path: Path) -> Pose:
    if rotation.shape != (3, 3) or translation.shape != (3,):
        raise SourceError(f"{path}: the rotation is 3x3 and the translation 3 numbers")
    return Pose(rotation, translation)


def _in_metres(pose: Pose, unit: LengthUnit | None, path: Path) -> Pose:
    """A pose with its translation in metres; the unit is that of the squares of the board that it was made with."""
    if unit is None and pose.baseline_m > MAX_BASELINE_M:
        number = pose.baseline_m
        raise UsageError(
            f"{path}: in metres, the cameras are {number:g} m apart. If the board was given in millimetres: --unit mm "
            f"({number / 1000:g} m apart); in centimetres: --unit cm; if {number:g} m is right: --unit m"
        )
    return replace(pose, translation_m=pose.translation_m * UNITS_M[unit or "m"])


class _Constructor(SafeConstructor):
    """Safe YAML that reads OpenCV's own tag as a mapping."""


def _matrix_node(constructor: Any, node: Any) -> dict[Any, Any]:
    return dict(constructor.construct_mapping(node, deep=True))


_Constructor.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix_node)


def _load(path: Path) -> Mapping[str, Any]:
    # OpenCV writes "%YAML:1.0", which is not valid YAML
    text = re.sub(r"\A%YAML[:\s]1\.\d\s*\n", "", _text(path))
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        content = yaml.load(text)
    except (YAMLError, ConstructorError, RecursionError) as error:
        first = " ".join(str(error).split())[:200]
        raise SourceError(f"{path}: is not valid YAML: {first}") from error
    if not isinstance(content, Mapping):
        raise SourceError(f"{path}: is not a mapping of keys and values")
    return content


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SourceError(f"{path}: is larger than {MAX_BYTES >> 20} MiB: not a calibration")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not a text file") from error
