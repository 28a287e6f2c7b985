"""The sensor repair and the noise reduction that a rig's cameras ask for: ``infrared.repair``, ``denoise``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from fusepipe.config.schema import Rig
from fusepipe.config.sources import SourceConfig
from fusepipe.core.errors import ConfigError
from fusepipe.core.frames import Band, FramePair
from fusepipe.core.image_files import infrared_image_planes, read_pixels
from fusepipe.core.redact import redact_url
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.stages.denoising import Denoising, NoiseReduction
from fusepipe.pipeline.stages.sensor_repair import RepairSettings, SensorRepair, shading_of
from fusepipe.rig.factories.live_sinks import Warn

log = logging.getLogger(__name__)


def make_sensor_repair(config: SourceConfig, info: SourceInfo, warn: Warn) -> SensorRepair | None:
    """``None`` where nothing is to be repaired. Raises :class:`ConfigError` for a flat field that does not fit."""
    repair = config.repair
    if repair is None or (repair.dead_pixels in ("off", ()) and repair.stripes == "off" and repair.shading is None):
        return None
    shading, shading_bytes = None, 2
    if repair.shading is not None:
        shown = redact_url(repair.shading)
        try:
            plane = infrared_image_planes(read_pixels(Path(repair.shading)))[0]
        except (OSError, ValueError) as error:
            raise ConfigError(f"infrared: repair.shading: {shown}: {error}") from error
        shading_bytes = plane.pixels.itemsize
        if info.known and (plane.width, plane.height) != (info.width, info.height):
            raise ConfigError(
                f"infrared: repair.shading: {shown} is {plane.width}x{plane.height}, but the camera's images are "
                f"{info.width}x{info.height}: use an image of this camera, with the same crop, rotate and flip"
            )
        if info.known and (shading_bytes > 1) != (info.bit_depth > 8):
            raise ConfigError(
                f"infrared: repair.shading: {shown} has {8 * shading_bytes}-bit counts, but the camera's images have "
                f"{info.bit_depth}-bit ones: use an image of this camera, as it delivers them"
            )
        shading = shading_of(plane.pixels)
    settings = RepairSettings(
        dead=repair.dead_pixels if isinstance(repair.dead_pixels, tuple) else (),
        find_dead=repair.dead_pixels == "auto",
        columns=repair.stripes in ("columns", "both"),
        rows=repair.stripes in ("rows", "both"),
        shading=shading,
        shading_bytes=shading_bytes,
    )
    return SensorRepair(settings, warn)


def make_noise_reductions(rig: Rig) -> dict[Band, NoiseReduction]:
    """Of the cameras that ask for it."""
    return {
        band: NoiseReduction(band, partial(log.info, "%s"))
        for band, camera in ((Band.INFRARED, rig.infrared), (Band.VISIBLE, rig.visible))
        if camera.denoise == "auto"
    }


def with_denoising(
    noisy: Mapping[Band, NoiseReduction], registration: Callable[[FramePair], FramePair]
) -> Callable[[FramePair], FramePair]:
    """``registration``, with the noise reduction of cameras."""
    return Denoising(registration, noisy.get(Band.INFRARED), noisy.get(Band.VISIBLE)) if noisy else registration
