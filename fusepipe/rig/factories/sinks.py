"""Makes sinks from their configuration: the typed factory over :mod:`file_sinks` and :mod:`live_sinks`.

Each kind is imported when a rig uses it: images need no FFmpeg, and files no servers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from fusepipe.config.schema import FileSink, ImagesSink, PreviewSink, Rig, RtspSink
from fusepipe.core.errors import SinkError
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.pipeline.sinks.files.track_options import TrackOptions
from fusepipe.pipeline.sources.base import ReadsFiles, Source

if TYPE_CHECKING:
    from fusepipe.pipeline.servers.web.alignment import AlignmentControl

log = logging.getLogger(__name__)


def _empty() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What sinks need from their run.

    ``fps`` is the rate of the output, ``infrared`` what is known of the infrared camera. ``live``: frames come as they
    are captured. ``restarted``: the process that ran the rig before has failed, and nothing of it is overwritten.
    ``report`` returns the run's report so far, for the preview;
    ``synced``: what is written of recordings is on the disk before they are complete, as of :class:`VideoOptions`.
    ``engine`` describes the fuser, for sidecars. ``alignment`` moves the infrared image.
    """

    fps: float | None = None
    infrared: TrackOptions | None = None
    overwrite: bool = False
    restarted: bool = False
    live: bool = False
    synced: bool = True
    warn: Callable[[str], None] = log.warning
    report: Callable[[], dict[str, Any]] = _empty
    engine: Callable[[], dict[str, Any]] = _empty
    alignment: AlignmentControl | None = None


SinkRestart = Callable[[Rig], Sink]
"""Makes the replacement of a failed sink from the rig's current settings."""


def make_sink(rig: Rig, index: int, context: SinkContext, *, restart: bool = False) -> Sink:
    """Sink ``index`` of a rig; nothing is written yet. ``%Y`` and other time fields of a file name take the time now.

    ``restart``: in place of one that failed; it must not overwrite what that one has written. So it is with all of a
    rig whose process is ``restarted``.
    """
    config = rig.sinks[index]
    restart = restart or context.restarted
    match config:
        case FileSink():
            from fusepipe.rig.factories.file_sinks import video_sink

            return video_sink(
                config,
                fps=context.fps if config.content == "fused" or context.infrared is None else context.infrared.fps,
                infrared_camera=context.infrared,
                live=context.live,
                overwrite=context.overwrite,
                engine=context.engine,
                restart=restart,
                synced=context.synced,
            )
        case ImagesSink():
            from fusepipe.pipeline.sinks.files.images import ImageFolderSink
            from fusepipe.pipeline.sinks.files.unused_folder import unused_folder

            # a process counts its pairs from 0; a sink in place of another one continues the numbers
            folder = unused_folder(Path(config.images)) if context.restarted else Path(config.images)
            return ImageFolderSink(folder, config.format, overwrite=context.overwrite and not restart)
        case RtspSink():
            from fusepipe.rig.factories.live_sinks import rtsp_sink

            return rtsp_sink(config, fps=context.fps, live=context.live, warn=context.warn)
        case PreviewSink():
            from fusepipe.rig.factories.live_sinks import preview_sink

            return preview_sink(
                config,
                rig.name,
                context.report,
                live=context.live,
                warn=context.warn,
                alignment=context.alignment,
            )
        case _:
            assert_never(config)


def restartable(rig: Rig, index: int) -> bool:
    """Whether a sink that failed can be replaced: not a video file whose fixed name the failed one has taken."""
    config = rig.sinks[index]
    return not isinstance(config, FileSink) or config.named_by_time


def sink_restarts(rig: Rig, context: SinkContext) -> Mapping[int, SinkRestart]:
    """By index of the sink, what makes its replacement; sinks that are not :func:`restartable` are left out."""

    def restart(index: int) -> SinkRestart:
        return lambda current: make_sink(current, index, context, restart=True)

    return {index: restart(index) for index in range(len(rig.sinks)) if restartable(rig, index)}


def check_inputs_kept(sources: Sequence[Source], sinks: Sequence[Sink]) -> None:
    """Raises :class:`SinkError` where a sink would overwrite an input, by whatever name or link.

    Also with ``--overwrite``: a recording cannot be made again.
    """
    inputs: dict[tuple[int, int], Path] = {}
    for file in (file for source in sources if isinstance(source, ReadsFiles) for file in source.files):
        for path in (file, file.absolute().parent):
            inputs.setdefault(_identity(path), path)
    for sink in sinks:
        for path in sink.outputs:
            if path.exists() and (taken := inputs.get(_identity(path))) is not None:
                raise SinkError(f"{path}: is also an input ({taken}); choose another output path")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
