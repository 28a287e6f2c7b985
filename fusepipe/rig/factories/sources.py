"""Makes sources from their configuration; each class is imported when a rig uses it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from fusepipe.config.locations import split_stream
from fusepipe.config.schema import SourceConfig
from fusepipe.core.camera_telemetry import TelemetryRows
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band
from fusepipe.core.image_formats import READ_SUFFIXES
from fusepipe.core.image_pages import holds_many_images, is_png
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sources.base import Source, SourceInfo
from fusepipe.pipeline.sources.files.frame_file import FrameFormat
from fusepipe.pipeline.sources.files.image_reader import ImageOptions
from fusepipe.pipeline.sources.live.connection_options import LiveOptions
from fusepipe.pipeline.sources.reframing import CropRectangle, Reframing

HOST_AND_PORT = re.compile(r"(^|/)[\w.-]+:\d+(/|$)")  # what is left of a URL without its scheme


def make_source(config: SourceConfig, band: Band, rig_name: str) -> Source:
    """The source of a rig's ``infrared`` or ``visible``, not opened yet.

    Raises :class:`SourceError` where a path does not exist.
    """
    kind = config.kind
    match kind:
        case "synthetic":
            from fusepipe.pipeline.sources.synthetic.source import SyntheticSource

            return SyntheticSource(
                config.url, band, camera=str(band), stream_id=rig_name, radiometry=radiometry_of(config, band)
            )
        case "live":
            from fusepipe.pipeline.sources.live.camera import LiveSource

            options, counts = live_options(config), config.count_range
            if band is Band.INFRARED:
                options = replace(options, yuyv_counts=config.yuyv == "counts")
            return LiveSource(
                config.url,
                band,
                options,
                count_range=counts,
                reframing=reframing_of(config, band),
                camera=str(band),
                stream_id=rig_name,
                radiometry=radiometry_of(config, band),
            )
        case "path":
            return _file_source(config, band, rig_name)
        case _:
            assert_never(kind)


def _file_source(config: SourceConfig, band: Band, rig_name: str) -> Source:
    (path, stream), counts = split_stream(config.url), config.count_range
    if not path.exists():
        camera = "; the URL of a camera begins with rtsp:// or http://" if HOST_AND_PORT.search(config.url) else ""
        raise SourceError(f"{path}: no such file or folder (the rig's {band} source){camera}")
    if not path.is_dir() and not path.is_file():
        raise SourceError(f"{path}: neither a file nor a folder (the rig's {band} source)")
    if stream is not None and (path.is_dir() or path.suffix.lower() in READ_SUFFIXES):
        raise SourceError(f"{path}: has no video streams to choose from; remove ?stream={stream}")
    if config.decoder not in ("auto", "software") and (path.is_dir() or path.suffix.lower() in READ_SUFFIXES):
        raise SourceError(f"{path}: decoder: {config.decoder} is for video; remove it")
    options = ImageOptions(
        config.fps,
        config.value_range,
        config.byte_order,
        reframing_of(config, band),
        str(band),
        rig_name,
        radiometry_of(config, band),
    )
    if path.is_file() and (form := _frame_format(config, path)) is not None:
        from fusepipe.pipeline.sources.files.frame_file import FrameFileSource

        return FrameFileSource(path, band, form, options)
    if path.is_dir() or (path.suffix.lower() in READ_SUFFIXES and not holds_many_images(path)):
        from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource

        return ImageFolderSource(
            path,
            band,
            fps=config.fps,
            value_range=config.value_range,
            byte_order=config.byte_order,
            reframing=reframing_of(config, band),
            camera=str(band),
            stream_id=rig_name,
            radiometry=radiometry_of(config, band),
        )
    if path.suffix.lower() in READ_SUFFIXES and not is_png(path):
        from fusepipe.pipeline.sources.files.paged_image import PagedImageSource

        return PagedImageSource(path, band, options)
    from fusepipe.pipeline.sources.decoders.hardware import choose_decoder
    from fusepipe.pipeline.sources.files.video_file import VideoFileSource

    return VideoFileSource(
        path,
        band,
        stream=stream,
        fps=config.fps,
        count_range=counts,
        yuyv_counts=config.yuyv == "counts" and band is Band.INFRARED,
        swap_bytes=config.byte_order == ("little" if is_png(path) else "big"),
        reframing=reframing_of(config, band),
        decoder=choose_decoder(config.decoder),
        camera=str(band),
        stream_id=rig_name,
        radiometry=radiometry_of(config, band),
    )


def _frame_format(config: SourceConfig, path: Path) -> FrameFormat | None:
    """The format of a file of images that neither OpenCV nor FFmpeg reads; ``None`` for others."""
    from fusepipe.pipeline.sources.files.flir_sequence import FlirSequence, is_flir_sequence
    from fusepipe.pipeline.sources.files.raw_file import RawFormat

    if config.raw is not None:
        return RawFormat(config.raw.frame_size, config.raw.samples, config.raw.header, config.raw.frame_header)
    try:
        return FlirSequence() if is_flir_sequence(path) else None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error


def radiometry_of(config: SourceConfig, band: Band) -> Radiometry | None:
    """What the ``radiometry`` of an infrared camera says of its counts; ``None`` without one."""
    given = config.radiometry
    if given is None or band is Band.VISIBLE:
        return None
    return Radiometry(given.unit, given.gain, given.offset)


def reframing_of(config: SourceConfig, band: Band) -> Reframing:
    """What a camera's ``crop``, ``rotate`` and ``flip``, and ``telemetry`` of the infrared one, do to its images."""
    crop = None if config.crop is None else CropRectangle(*config.crop)
    given = config.telemetry if band is Band.INFRARED else None
    rows = None if given is None else TelemetryRows(given.camera, given.rows or 0, given.above)
    return Reframing(crop, config.rotate, config.flip, rows)


def live_options(config: SourceConfig) -> LiveOptions:
    """Connection options of a live camera; keys that the rig does not set keep their defaults."""
    from fusepipe.pipeline.sources.decoders.hardware import choose_decoder

    defaults = LiveOptions()
    return LiveOptions(
        transport=config.transport or defaults.transport,
        fps=config.fps,
        open_timeout_ns=config.open_timeout_ns or defaults.open_timeout_ns,
        stall_timeout_ns=config.stall_timeout_ns or defaults.stall_timeout_ns,
        damaged=config.damaged or defaults.damaged,
        format=config.format,
        poll_ns=config.poll_ns,
        decoder=choose_decoder(config.decoder),
        options=dict(config.options),
    )


def open_cameras(sources: Sequence[Source]) -> list[SourceInfo]:
    """Opens live cameras that have to be there; raises one :class:`SourceError` that names all that are not."""
    infos, failures = [], []
    for source in sources:
        try:
            info = source.open()
        except SourceError as error:
            failures.append(str(error))
            continue
        if not info.known:
            failures.append(f"{source.label}: {info.offline_reason or 'delivers no image'}")
        infos.append(info)
    if failures:
        raise SourceError("; ".join(failures))
    return infos
