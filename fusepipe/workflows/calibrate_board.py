"""``fusepipe calibrate board``: a calibration from images, clips or cameras that show a board."""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusepipe.calibration.board.capture import Collector
from fusepipe.calibration.board.intrinsics import CameraResult, View, calibrate_camera
from fusepipe.calibration.board.point_detection import Detection, detect_in_plane, other_checkerboard
from fusepipe.calibration.board.stereo import MIN_PAIRS, StereoResult, calibrate_stereo
from fusepipe.calibration.board.target import Board
from fusepipe.calibration.file.model import Calibration, Made, make_stereo_calibration
from fusepipe.calibration.gradient_field import to_luma8
from fusepipe.calibration.lens import LensModel
from fusepipe.core import image_files
from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Band, FusedFrame, Size
from fusepipe.core.text import shortlist
from fusepipe.pipeline.sinks.base import SinkReport
from fusepipe.pipeline.sources.reframing import Reframing
from fusepipe.rig.api import Pipeline
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.rig.factories.sources import reframing_of
from fusepipe.rig.from_options import CameraKeys, minimal_rig, source_config
from fusepipe.workflows.scene_pairs import read_reframed

SAMPLE_S = 0.25  # of capture time between two frames that are searched
MAX_WITHOUT_BOARD = 4  # images at the start, after which a folder without a board is refused
LOOKED_AHEAD = 3  # images that are searched for a board of another size, if the first shows none of the right one
Step = Callable[[int, int, str], None]


@dataclass
class Views:
    """Boards detected in the images of one camera."""

    camera: str
    size: Size | None = None
    found: list[View] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    coloured: int = 0

    def require_size(self, size: Size, name: str) -> None:
        """Raises :class:`SourceError` for an image of another size than those before."""
        if self.size is None:
            self.size = size
        elif self.size != size:
            raise SourceError(
                f"{name}: is {size[0]}x{size[1]}, the previous {self.camera} images are "
                f"{self.size[0]}x{self.size[1]}: use images of one camera at one size"
            )


@dataclass(frozen=True)
class BoardResult:
    """All results; ``calibration`` is ``None`` with only one camera, or for a rig that is not rigid."""

    board: Board
    infrared: CameraResult | None
    visible: CameraResult | None
    stereo: StereoResult | None
    calibration: Calibration | None
    without_board: dict[str, list[str]]

    def as_json(self) -> dict[str, Any]:
        cameras = {"infrared": self.infrared, "visible": self.visible}
        document: dict[str, Any] = {"board": str(self.board), "without_board": self.without_board}
        for name, camera in cameras.items():
            if camera is not None:
                lens = camera.lens
                document[name] = {
                    "views": len(camera.errors_px),
                    "rms_px": camera.rms_px,
                    "errors_px": camera.errors_px,
                    "rejected": camera.rejected,
                    "size": list(lens.size),
                    "model": lens.model,
                    "focal": [lens.fx, lens.fy],
                    "centre": [lens.cx, lens.cy],
                    "distortion": list(lens.distortion),
                    "deviations": list(camera.deviations),
                    "field_of_view_deg": round(lens.field_of_view_deg, 2),
                    "covered": round(camera.covered, 3),
                    "coverage": camera.coverage.tolist(),
                    "board_flaw_m": camera.board_flaw_m,
                    "warnings": camera.warnings(),
                }
        if self.stereo is not None:
            document["stereo"] = {
                "pairs": len(self.stereo.errors_px),
                "rms_px": self.stereo.rms_px,
                "errors_px": {name: list(error) for name, error in self.stereo.errors_px.items()},
                "rejected": self.stereo.rejected,
                "baseline_m": round(self.stereo.pose.baseline_m, 5),
                "angle_deg": round(self.stereo.pose.angle_deg, 4),
                "board_distance_m": self.stereo.board_distance_m,
                "loose": self.stereo.loose,
                "warnings": self.stereo.warnings(),
            }
        return document


def read_folder(
    folders: Sequence[Path],
    board: Board,
    camera: str,
    step: Step | None = None,
    keys: Mapping[str, Any] | None = None,
) -> Views:
    """Detects the board in every image of folders; views are named by stem. ``keys``: the camera's ``crop`` and such.

    Raises :class:`UsageError` where the first ``MAX_WITHOUT_BOARD`` images show no board: an image without one takes
    seconds, and a folder without any is the wrong folder, or the board is another one. If the first shows none, and
    several show a checkerboard of another size, that is refused at once.
    """
    views = Views(camera)
    reframing = reframing_of(source_config(str(folders[0]), keys), Band(camera))
    files = [file for folder in folders for file in image_files.list_images(folder)]
    if step is not None:
        step(0, len(files), f"{camera}: looking for boards")
    for number, file in enumerate(files):
        pixels = read_reframed(file, reframing)
        views.coloured += image_files.is_coloured(pixels)
        plane = image_files.infrared_image_planes(pixels)[0]
        views.require_size((plane.pixels.shape[1], plane.pixels.shape[0]), str(file))
        detection = detect_in_plane(plane, board)
        if detection is None:
            views.without.append(file.stem)
        else:
            views.found.append(View(file.stem, detection))
        if step is not None:
            step(number + 1, len(files), f"{camera}: {len(views.found)} boards")
        if not views.found:
            other = _other_board(files[:LOOKED_AHEAD], board, reframing) if number == 0 else ""
            if other or number + 1 >= min(MAX_WITHOUT_BOARD, len(files)):
                raise UsageError(
                    f"{' '.join(map(str, folders))}: {_why_no_board(number + 1, files, board, camera, other)}"
                )
    return views


def _other_board(files: Sequence[Path], board: Board, reframing: Reframing) -> str:
    """``6x5`` where two of these images show such a checkerboard instead of ``board``, which is none of them."""
    if board.kind != "checkerboard":
        return ""
    sizes: Counter[tuple[int, int]] = Counter()
    for file in files:
        luma = to_luma8(image_files.infrared_image_planes(read_reframed(file, reframing))[0])
        if (size := other_checkerboard(luma, board)) is not None:
            sizes[size] += 1
    size, count = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
    return f"{size[0]}x{size[1]}" if count > 1 else ""


def _why_no_board(looked: int, files: Sequence[Path], board: Board, camera: str, other: str) -> str:
    images = f"the {len(files)} {camera} {'image' if len(files) == 1 else 'images'}"
    if other:
        return (
            f"no {board} in the first of {images}, but several show a checkerboard of {other} inner corners: try "
            f"--board {board.kind}:{other}:{board.spacing_m:g}m"
        )
    where = "any" if looked == len(files) else f"the first {looked}"
    return (
        f"no {board} in {where} of {images}: check --board (for a checkerboard the inner corners, one less than the "
        "squares), and that the whole board is in the image"
    )


class BoardSink:
    """A sink that detects the board in pairs instead of writing them; ``done`` is set after enough views."""

    label = "board views"
    outputs: Sequence[Path] = ()

    def __init__(self, board: Board, views: int, report: Callable[[Collector, str], None]) -> None:
        self._board, self._views, self._report = board, views, report
        self._last_s = float("-inf")
        self.collector: Collector | None = None
        self.done = threading.Event()

    def check(self) -> None:
        """Does nothing: it writes no output."""

    def write(self, frame: FusedFrame) -> None:
        infrared, visible = frame.pair.infrared, frame.pair.visible
        time_s = frame.capture_ns / 1e9
        if infrared is None or visible is None or self.done.is_set() or time_s - self._last_s < SAMPLE_S:
            return
        self._last_s = time_s
        if self.collector is None:
            sizes = (infrared.width, infrared.height), (visible.width, visible.height)
            self.collector = Collector(self._board, *sizes)
        name = frame.name or f"{time_s:.2f}s"
        found = detect_in_plane(infrared.luma, self._board), detect_in_plane(visible.luma, self._board)
        self._report(self.collector, self.collector.offer(time_s, name, *found))
        if len(self.collector.pairs) >= self._views:
            self.done.set()

    def close(self) -> SinkReport:
        accepted = len(self.collector.pairs) if self.collector else 0
        return SinkReport(self.label, accepted, 0)


def watch(
    infrared_url: str,
    visible_url: str,
    board: Board,
    views: int,
    report: Callable[[Collector, str], None],
    keys: CameraKeys | None = None,
) -> tuple[Views, Views]:
    """Runs two cameras or clips until enough views are accepted, they end, or Ctrl-C is pressed."""
    sink = BoardSink(board, views, report)
    pipeline = Pipeline(
        minimal_rig("board", infrared_url, visible_url, keys), sinks=[sink], fuser=load_fuser("mean")
    )  # which closes both
    pipeline.start()
    try:
        while not pipeline.wait(0.2):
            if sink.done.is_set():
                pipeline.drain()
    except KeyboardInterrupt:
        pipeline.drain()
        pipeline.wait()
    pipeline.raise_error()
    collector = sink.collector
    if collector is None:
        raise SourceError(f"{infrared_url} and {visible_url}: no pair of frames arrived")
    if not collector.pairs:
        why = "; ".join(f"{count} times {reason}" for reason, count in collector.reasons.items())
        raise UsageError(f"none of {collector.offered} views was accepted: {why}")
    infrared = Views("infrared", collector.infrared_size, [one for one, _ in collector.pairs])
    visible = Views("visible", collector.visible_size, [other for _, other in collector.pairs])
    return infrared, visible


def solve(
    infrared: Views,
    visible: Views,
    board: Board,
    models: tuple[LensModel, LensModel] = ("pinhole", "pinhole"),
    plane_distance_m: float | None = None,
    note: str | None = None,
) -> BoardResult:
    """Calibrates both lenses, then the pose. Raises :class:`UsageError` where the views do not suffice."""
    if infrared.coloured > len(infrared.found) / 2 and not visible.coloured and visible.found:
        raise UsageError(
            "the infrared images are colour and the visible ones are not: the cameras are swapped; give the "
            "infrared images first"
        )
    cameras: list[CameraResult | None] = []
    for views, model in zip((infrared, visible), models, strict=True):
        if views.size is None:
            cameras.append(None)
            continue
        if not views.found:
            raise UsageError(
                f"the board ({board}) was not found in any of the {len(views.without)} {views.camera} images "
                f"(such as {shortlist(views.without, 3)}): check the number of its inner corners, and that all of it "
                "is in the image" + (", warmer or colder than the background" if views.camera == "infrared" else "")
            )
        cameras.append(calibrate_camera(views.found, board, views.size, model, views.camera))
    first, second = cameras
    stereo, calibration = None, None
    if first is not None and second is not None:
        partners = {view.name: view for view in visible.found}
        pairs = [(view, partners[view.name]) for view in infrared.found if view.name in partners]
        if not pairs:
            raise UsageError(
                f"no infrared image with a board has the same stem as a visible one with a board (for example "
                f"{infrared.found[0].name!r} and {visible.found[0].name!r}): both images of a view need the same "
                "stem"
            )
        stereo = calibrate_stereo(pairs, board, first.lens, second.lens, (first.rms_px, second.rms_px))
        if stereo.loose:
            stereo = replace(stereo, loose=_why_loose(stereo, pairs, board, first, second))
        else:
            calibration = _calibration(first, second, stereo, plane_distance_m, note)
    without = {v.camera: v.without for v in (infrared, visible) if v.without}
    return BoardResult(board, first, second, stereo, calibration, without)


def mirrored(pairs: Sequence[tuple[View, View]], board: Board, width_px: int) -> list[tuple[View, View]]:
    """The same pairs with the infrared points flipped horizontally, to undo mirroring."""
    columns, rows = board.shape
    order = np.arange(board.count).reshape(rows, columns)[:, ::-1].ravel()
    flipped = []
    for infrared, visible in pairs:
        seen = infrared.detection
        if len(seen.ids) == board.count:
            points = seen.points[order] * (-1, 1) + (width_px - 1, 0)
            flipped.append((View(infrared.name, Detection(points.astype(np.float32), seen.ids, seen.how)), visible))
    return flipped


def _why_loose(
    stereo: StereoResult, pairs: Sequence[tuple[View, View]], board: Board, first: CameraResult, second: CameraResult
) -> str:
    """The reason: a mirrored camera where that fits, else the one of the stereo calibration."""
    if board.kind != "checkerboard":
        return stereo.loose
    width = first.lens.size[0]
    back = mirrored(pairs, board, width)
    if len(back) < MIN_PAIRS:
        return stereo.loose
    lens = replace(first.lens, cx=width - 1 - first.lens.cx)
    other = calibrate_stereo(back, board, lens, second.lens, (first.rms_px, second.rms_px))
    if other.rms_px < 0.5 * stereo.rms_px:
        return (
            f"the infrared images are mirrored: flipped horizontally, the stereo error is {other.rms_px:.1f} px "
            f"instead of {stereo.rms_px:.1f} px. Disable mirroring (flip) in the infrared camera's settings"
        )
    return stereo.loose


def _calibration(
    infrared: CameraResult,
    visible: CameraResult,
    stereo: StereoResult,
    plane_distance_m: float | None,
    note: str | None,
) -> Calibration:
    distance = plane_distance_m or stereo.board_distance_m
    quality: dict[str, float | str] = {
        "infrared_rms_px": infrared.rms_px,
        "visible_rms_px": visible.rms_px,
        "stereo_rms_px": stereo.rms_px,
        "pairs": len(stereo.errors_px),
        "infrared_covered": round(infrared.covered, 3),
        "visible_covered": round(visible.covered, 3),
        "infrared_focal_deviation_px": infrared.deviations[0],
        "visible_focal_deviation_px": visible.deviations[0],
    }
    made = Made(by="fusepipe calibrate board", date=datetime.datetime.now(datetime.UTC).date(), note=note)
    return make_stereo_calibration(infrared.lens, visible.lens, stereo.pose, distance, made=made, quality=quality)
