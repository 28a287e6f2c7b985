"""Image pairs of a scene, for ``calibrate scene`` and ``calibrate check``: from images, folders or recordings.

Recordings are paired by capture time, as a run pairs them, and sampled evenly over their whole length.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from fusepipe.calibration.gradient_field import to_luma8
from fusepipe.calibration.scene.registration import SceneResult
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.config.schema import SourceConfig
from fusepipe.core import image_files, image_formats
from fusepipe.core.errors import SourceError, UsageError
from fusepipe.core.frames import Band, Frame, FramePair, Pixels, UnreadableFrame
from fusepipe.core.image_pages import holds_many_images
from fusepipe.evaluation.image_sets import match
from fusepipe.pipeline.pairing.motion_offset import MotionEnergy, offset_by_cells
from fusepipe.pipeline.pairing.time_pairer import TOLERANCE_NS, TimePairer
from fusepipe.pipeline.sources.base import Source, SourceInfo
from fusepipe.pipeline.sources.image_colour import palette_places
from fusepipe.pipeline.sources.reframing import CropError, Reframing
from fusepipe.rig.factories.sources import make_source, reframing_of
from fusepipe.rig.from_options import CameraKeys, source_config
from fusepipe.workflows.probe_report import RecordingTiming

MAX_SAMPLED_PAIRS = 24
LIVE_CAMERAS = (
    "live cameras: record a minute of both first, with a rig that has the sinks {file: ir.mkv, content: infrared} and "
    "{file: visible.mkv, view: {mode: visible}}, such as docs/rigs/record-pair.yaml, and give the two recordings"
)
MOTION_NS = 600_000_000_000  # of recordings, in which the offset of their times is looked for

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SceneInput:
    """``timing`` is what motion in two recordings says; ``None`` for images. ``motion``: that of both."""

    pairs: list[ScenePair]
    timing: RecordingTiming | None = None
    motion: tuple[MotionEnergy, MotionEnergy] | None = None

    def timing_with(self, result: SceneResult) -> RecordingTiming | None:
        """The timing where it is sure, else that by the motion in each part of the registered images."""
        timing = self.timing
        if timing is None or self.motion is None or timing.sure or result.refusal:
            return timing
        own, other = (np.diag([1 / size[0], 1 / size[1], 1.0]) for size in (result.infrared_size, result.visible_size))
        found = offset_by_cells(*self.motion, other @ result.matrix @ np.linalg.inv(own))
        return timing if found is None or not found.sure else replace(timing, motion=found)


def read_pairs(
    infrared: str, visible: str, most: int = MAX_SAMPLED_PAIRS, keys: CameraKeys | None = None
) -> list[ScenePair]:
    """Those of :func:`read_scene`."""
    return read_scene(infrared, visible, most, keys).pairs


def read_scene(
    infrared: str, visible: str, most: int = MAX_SAMPLED_PAIRS, keys: CameraKeys | None = None
) -> SceneInput:
    """Up to ``most`` pairs, evenly spread, of two images, two folders (by stem), or two recordings (by time).

    ``keys`` are further settings of each camera, such as its ``crop``.
    Image files with several pages or frames are recordings. Raises :class:`SourceError`, and :class:`UsageError` where
    the cameras are swapped.
    """
    paths = Path(infrared), Path(visible)
    configs = [source_config(url, (keys or {}).get(band)) for band, url in zip(Band, (infrared, visible), strict=True)]
    reframings = reframing_of(configs[0], Band.INFRARED), reframing_of(configs[1], Band.VISIBLE)
    if all(_is_one_image(path) for path in paths):
        return SceneInput([_read_images(paths, reframings, paths[0].stem)])
    if all(path.is_dir() for path in paths):
        files = match(infrared=paths[0], visible=paths[1]).files
        names = evenly(list(files), most)
        return SceneInput([_read_images((files[name][0], files[name][1]), reframings, name) for name in names])
    return _read_recordings(configs, most)


def _is_one_image(path: Path) -> bool:
    try:
        return path.suffix.lower() in image_formats.READ_SUFFIXES and path.is_file() and not holds_many_images(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error


def read_reframed(path: Path, reframing: Reframing) -> Pixels:
    """The pixels of an image file, reframed. Raises :class:`SourceError`."""
    try:
        return reframing.pixels(image_files.read_pixels(path))
    except (image_files.UnreadableImage, CropError) as error:
        raise SourceError(f"{path}: cannot be used: {error}") from error


def _read_images(paths: tuple[Path, Path], reframings: tuple[Reframing, Reframing], name: str) -> ScenePair:
    infrared, visible = paths
    read = [read_reframed(path, reframing) for path, reframing in zip(paths, reframings, strict=True)]
    ordered = palette_places(read[0])  # luma of false colours is not ordered by temperature: it has edges of its own
    if ordered is None and image_files.is_coloured(read[0]) and not image_files.is_coloured(read[1]):
        raise UsageError(
            f"{infrared}: is a colour image and {visible} is not: the cameras are swapped; give the "
            "infrared images first"
        )
    if np.array_equal(read[0], read[1]):
        raise UsageError(f"{infrared} and {visible} are the same image: give one image of each camera")
    visible_luma = to_luma8(image_files.visible_image_planes(read[1])[0])
    if ordered is None:
        ordered = to_luma8(image_files.infrared_image_planes(read[0])[0])
    return ScenePair(ordered, visible_luma, name)


def _read_recordings(configs: Sequence[SourceConfig], most: int) -> SceneInput:
    """Pairs of the nearest capture times of two recordings, evenly spread from their start to their end.

    Where motion shows that their times are offset from each other, they are read again and paired with that offset.
    """
    motion = MotionEnergy(), MotionEnergy()
    pairs = _paired(configs, most, 0, motion)
    timing = RecordingTiming.measured(*motion)
    if timing.sure and timing.motion is not None:
        pairs = _paired(configs, most, timing.motion.offset_ns, None)
    if not pairs:
        raise SourceError(
            f"{configs[0].label} and {configs[1].label}: no infrared frame was captured at the time of a visible "
            "one; check that both recordings cover the same time"
        )
    return SceneInput([_scene_pair(pair) for pair in pairs], timing, motion)


def _paired(
    configs: Sequence[SourceConfig], most: int, offset_ns: int, motion: tuple[MotionEnergy, MotionEnergy] | None
) -> list[FramePair]:
    stop = threading.Event()
    sources = [make_source(config, band, "scene") for config, band in zip(configs, Band, strict=True)]
    try:
        infos = [source.open() for source in sources]
        if any(source.clock == "wall" for source in sources):
            raise UsageError(LIVE_CAMERAS)
        if infos[0].colour == "false":  # an infrared source drops the colours, which have the order of temperatures
            sources[0].close()
            sources[0] = make_source(configs[0], Band.VISIBLE, "scene")
            infos[0] = sources[0].open()
        pairer = nearest_pairer(infos[0], infos[1], offset_ns)
        timed = all(info.timed for info in infos)
        return sample(pairs_by_time(sources[0], sources[1], pairer, stop, motion if timed else None), most)
    finally:
        stop.set()
        for source in sources:
            source.close()


def nearest_pairer(infrared: SourceInfo, visible: SourceInfo, offset_ns: int = 0) -> TimePairer:
    """A pairer that gives each frame of the slower camera the nearest one of the faster, and drops what has none.

    ``offset_ns`` is added to infrared times. Nearest is at most half a frame interval of the faster camera away.
    """
    rates = [info.fps for info in (infrared, visible) if info.fps]
    slower = Band.INFRARED if infrared.fps and visible.fps and infrared.fps < visible.fps else Band.VISIBLE
    half_interval_ns = round(0.5e9 / max(rates)) if rates else 0
    # a tenth more, for times that a container rounds
    tolerance_ns = max(TOLERANCE_NS, half_interval_ns * 11 // 10)
    return TimePairer(slower, tolerance_ns=tolerance_ns, offset_ns=offset_ns, on_missing="drop")


def pairs_by_time(
    infrared: Source,
    visible: Source,
    pairer: TimePairer,
    stop: threading.Event,
    motion: tuple[MotionEnergy, MotionEnergy] | None = None,
) -> Iterator[FramePair]:
    """The pairs of two opened recordings in order; frames that cannot be decoded are left out.

    ``motion`` collects that of each band, of its first ``MOTION_NS``.
    """
    streams = {Band.INFRARED: infrared.frames(stop), Band.VISIBLE: visible.frames(stop)}
    energies = {} if motion is None else dict(zip(Band, motion, strict=True))
    while (band := pairer.wants()) is not None:
        item = next(streams[band], None)
        if item is None:
            yield from pairer.end(band)
            continue
        if isinstance(item, Frame | UnreadableFrame):
            item = replace(item, band=band)  # infrared in false colours is read as a visible camera
        if isinstance(item, Frame) and band in energies and energies[band].span_ns < MOTION_NS:
            energies[band].push(item)
        yield from pairer.push(item)


def sample(items: Iterable[T], most: int) -> list[T]:
    """Up to ``most`` items, evenly spread from the first to the last, of a series of unknown length.

    Keeps every n-th item and doubles n whenever there are twice as many as wanted, so that memory is bounded.
    """
    kept: list[T] = []
    step = 1
    for index, item in enumerate(items):
        if index % step:
            continue
        kept.append(item)
        if len(kept) > 2 * most:
            kept = kept[::2]
            step *= 2
    return evenly(kept, most)


def evenly(items: list[T], most: int) -> list[T]:
    """Up to ``most`` of them, evenly spread, the first and the last included."""
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, min(most, len(items)))]


def _scene_pair(pair: FramePair) -> ScenePair:
    assert pair.infrared is not None and pair.visible is not None  # `on_missing="drop"` gives whole pairs only
    name = f"{pair.visible.capture_ns / 1e9:.2f}s"
    ordered = palette_places(image_files.to_bgr(pair.infrared)) if pair.infrared.chroma else None
    infrared = to_luma8(pair.infrared.luma) if ordered is None else ordered
    return ScenePair(infrared, to_luma8(pair.visible.luma), name)
