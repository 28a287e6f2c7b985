"""From a rig to the parts of its graph: sources, pairer, transforms, fuser, sinks.

The one place that knows both the configuration and the classes; everything below it gets its values by
argument.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fusepipe.config.schema import FileSink, FusionConfig, ImagesSink, Rig, RtspSink, SourceConfig, SyncConfig
from fusepipe.core.errors import ConfigError, SinkError, SourceError, UsageError
from fusepipe.core.frames import Band
from fusepipe.core.fuser import Fuser
from fusepipe.core.image_files import SUFFIXES
from fusepipe.core.models import SINKS, SOURCES, model_factory, resolve
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.degradation import Change
from fusepipe.pipeline.pairing.live_pairer import LivePairer
from fusepipe.pipeline.pairing.name_pairer import NamePairer
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.pairing.time_pairer import TimePairer
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.pipeline.sources.base import Source
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.stages.registration import Size
from fusepipe.rig import file_sinks as file_outputs
from fusepipe.rig import live_sinks as live_outputs

if TYPE_CHECKING:
    from fusepipe.calibration.aligner import Aligner, Alignment
    from fusepipe.calibration.warp import RemapWarp
    from fusepipe.pipeline.stages.cropping import CommonViewCrop

log = logging.getLogger(__name__)


def load_fuser(
    model: str = "stream", backend: str = "auto", precision: str = "auto", engine: str | None = None
) -> Fuser:
    """A fuser by name: ``load_fuser("stream").fuse(ir, vis)`` takes and gives HxW uint8 luma.

    ``backend`` and ``precision`` ``auto`` take the best that works here; ``fuser.info`` says which and why.
    Raises :class:`UsageError` for unknown names, :class:`EngineError` where it cannot run here.
    """
    fuser: Fuser = model_factory(model)(model, backend, precision, engine)
    return fuser


def rig_fuser(fusion: FusionConfig) -> Fuser:
    """What fuses for a rig; rigs of the same ``fusion`` share an engine on a GPU, which takes their pairs together."""
    from fusepipe.engines.sharing import ENGINES

    named = fusion.model, fusion.backend, fusion.precision, fusion.engine
    return ENGINES.lease(named, lambda: load_fuser(*named))


def source(config: SourceConfig, band: Band, rig_name: str) -> Source:
    """The source that a rig's ``infrared`` or ``visible`` names; not opened yet."""
    names = {"camera": str(band), "stream_id": rig_name}
    if config.kind == "synthetic":
        made: Source = resolve(SOURCES["synthetic"])(config.url, band, **names)
        return made
    if config.kind == "live":
        made = resolve(SOURCES["live"])(config.url, band, live_options(config), count_range=config.count_range, **names)
        return made
    path = Path(config.url)
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder (the rig's {band} source)")
    if not path.is_dir() and not path.is_file():
        raise SourceError(f"{path}: is neither a file nor a folder (the rig's {band} source)")
    kind = "images" if path.is_dir() or path.suffix.lower() in SUFFIXES else "video"
    made = resolve(SOURCES[kind])(path, band, fps=config.fps, count_range=config.count_range, **names)
    return made


def url_source(url: str, band: Band, name: str) -> Source:
    """The source that a URL or path alone names; not opened yet. Raises :class:`UsageError` for what is none."""
    return source(plain_rig(name, url, url).infrared, band, name)


def plain_rig(name: str, infrared: str, visible: str) -> Rig:
    """A rig of two sources without outputs, for programs that look at its pairs themselves."""
    try:
        return Rig.model_validate({"name": name, "infrared": {"url": infrared}, "visible": {"url": visible}})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['input']!r}: {first['msg'].removeprefix('Value error, ')}") from error


def live_options(config: SourceConfig) -> LiveOptions:
    """How a live camera is opened; what the rig does not say is the default."""
    defaults = LiveOptions()
    return LiveOptions(
        transport=config.transport or defaults.transport,
        fps=config.fps,
        open_timeout_ns=config.open_timeout_ns or defaults.open_timeout_ns,
        stall_timeout_ns=config.stall_timeout_ns or defaults.stall_timeout_ns,
        options=dict(config.options),
    )


def live_pairer(
    rig: Rig, pairer: TimePairer, size: tuple[int, int], start_ns: int, changed: Callable[[Change], None]
) -> LivePairer:
    """``pairer`` with the cameras' clocks, and with what keeps the output going."""
    clocks = {Band.INFRARED: CaptureClock(rig.infrared.latency_ns), Band.VISIBLE: CaptureClock(rig.visible.latency_ns)}
    return LivePairer(
        pairer,
        clocks,
        reference=rig.sync.reference,
        size=size,
        start_ns=start_ns,
        max_wait_ns=rig.sync.max_wait_ns,
        changed=changed,
    )


def output_size(rig: Rig) -> tuple[int, int] | None:
    """(width, height) as ``output.size`` says."""
    if rig.output.size is None:
        return None
    width, _, height = rig.output.size.partition("x")
    return int(width), int(height)


def pairs_by_name(rig: Rig) -> bool:
    """Whether the rig's frames are paired by file name: what ``pair_by: auto`` means for two folders."""
    urls = (rig.infrared, rig.visible)
    folders = all(c.kind == "path" and Path(c.url).is_dir() for c in urls)
    if rig.sync.pair_by == "name" and not folders:
        raise ConfigError(f"{rig.name}: sync.pair_by: name needs two folders of images; use time for videos")
    return rig.sync.pair_by != "time" and folders


def pairer(sync: SyncConfig, *, by_name: bool) -> Pairer:
    if by_name:
        return NamePairer(sync.reference)
    return TimePairer(
        sync.reference,
        tolerance_ns=sync.tolerance_ns,
        offset_ns=sync.offset_ns,
        on_missing=sync.on_missing,
        max_hold_ns=sync.max_hold_ns,
        max_wait_ns=sync.max_wait_ns,
    )


def aligner(calibration: str | None, distance_m: float | None = None) -> Aligner:
    """How a rig's images are brought onto each other: its calibration at its plane distance."""
    from fusepipe.calibration import warp
    from fusepipe.calibration.aligner import Aligner

    if calibration is not None and calibration.startswith("synthetic://"):
        from fusepipe.pipeline.sources.synthetic.truth import synthetic_calibration

        def true_warp(infrared: Size, visible: Size, distance_m: float | None, adjust: Any) -> RemapWarp | None:
            if distance_m is not None:
                raise UsageError("plane_distance: synthetic://street has one plane only; leave it out")
            matrix = synthetic_calibration(calibration, infrared, visible)
            return warp.RemapWarp(matrix if adjust is None else adjust @ matrix, infrared, visible)

        return Aligner(true_warp, distance_m)
    loaded = None
    if calibration is not None:
        from fusepipe.calibration.file.calibration import load_calibration

        loaded = load_calibration(Path(calibration))
    return Aligner(partial(warp.build_warp, loaded), distance_m)


def common_view(alignment: Alignment, infrared: Size) -> CommonViewCrop:
    """Crops to what both cameras see with this alignment; ``infrared`` is (width, height)."""
    from fusepipe.calibration.common_view import Rectangle, common_view
    from fusepipe.pipeline.stages.cropping import CommonViewCrop

    def rectangle(visible: Size) -> Rectangle:
        warp = alignment(infrared, visible)
        return common_view(None if warp is None else warp.valid, visible)

    return CommonViewCrop(rectangle)


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What sinks have to know of their run.

    ``live`` says whether frames come as they are captured; ``record`` gives the run's record so far, for the
    preview, and ``engine`` what fuses, for sidecars.
    """

    fps: float | None = None
    overwrite: bool = False
    live: bool = False
    warn: Callable[[str], None] = log.warning
    record: Callable[[], dict[str, Any]] = _nothing
    engine: Callable[[], dict[str, Any]] = _nothing


def sink(rig: Rig, index: int, context: SinkContext, *, again: bool = False) -> Sink:
    """One of the rig's sinks; nothing is written yet. ``%Y``-like marks of a file's name take the time now.

    ``again``: in place of one that failed.
    """
    config = rig.sinks[index]
    if isinstance(config, FileSink):
        file_only: dict[str, Any] = {"overwrite": context.overwrite, "engine": context.engine, "again": again}
        return file_outputs.file_sink(config, fps=context.fps, live=context.live, **file_only)
    if isinstance(config, ImagesSink):
        made: Sink = _sink("images")(Path(config.images), config.format, overwrite=context.overwrite and not again)
        return made
    if isinstance(config, RtspSink):
        return live_outputs.rtsp_sink(config, fps=context.fps, live=context.live, warn=context.warn)
    return live_outputs.preview_sink(config, rig.name, context.record, live=context.live)


def renewable(rig: Rig, index: int) -> bool:
    """Whether a sink that failed can be made anew: not where the name of its file is taken by what it has written."""
    config = rig.sinks[index]
    return not isinstance(config, FileSink) or config.named_by_time


def _sink(kind: str) -> Callable[..., Any]:
    return resolve(SINKS[kind])


def require_inputs_kept(sources: Sequence[Source], made: Sequence[Sink]) -> None:
    """Raises :class:`SinkError` where a sink would write over an input, by whatever name or link.

    Also with ``--overwrite``: what was recorded is not to be had again.
    """
    inputs: dict[tuple[int, int], Path] = {}
    for file in (file for source in sources for file in getattr(source, "files", ())):
        for path in (file, file.absolute().parent):
            inputs.setdefault(_identity(path), path)
    for sink in made:
        for path in sink.outputs:
            if path.exists() and (taken := inputs.get(_identity(path))) is not None:
                raise SinkError(f"{path}: is an input as well ({taken}); write to another place")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
