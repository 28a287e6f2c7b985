"""The tone mapping of a rig: the fixed range or the gain control that its keys ask for."""

from __future__ import annotations

import logging
from functools import partial

from fusepipe.config.gain import AgcConfig
from fusepipe.config.sources import SourceConfig
from fusepipe.core.counts import CountSettings
from fusepipe.core.errors import ConfigError
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.stages.gain_control import GainMode, GainSettings
from fusepipe.pipeline.stages.tonemap import ToneMap, ToneMapping
from fusepipe.rig.factories.live_sinks import Warn

log = logging.getLogger(__name__)


def make_tone_map(config: SourceConfig, settings: CountSettings, warn: Warn, info: SourceInfo) -> ToneMap:
    """The tone mapping of the infrared camera; a source that has ``mapped`` its values has applied the range itself.

    Raises :class:`ConfigError` for levels in degrees of a camera whose counts have no temperature.
    """
    radiometry, mapped = info.radiometry, info.mapped
    in_degrees = config.agc is not None and config.agc.temperatures is not None
    if in_degrees and info.known and (radiometry is None or not radiometry.thermal):
        raise ConfigError(
            "infrared: agc.temperatures needs a radiometry: set infrared.radiometry, such as {unit: kelvin, gain: 0.01}"
        )
    return ToneMap(
        tone_mapping(config, mapped=mapped), warn, None if mapped else settings, note=partial(log.info, "%s")
    )


def tone_mapping(config: SourceConfig, *, mapped: bool = False) -> ToneMapping:
    """What the keys ``range``, ``agc`` and ``polarity`` of a camera mean."""
    if config.value_range is not None:
        return ToneMapping(None if mapped else config.count_range, polarity=config.polarity)
    agc = config.agc or AgcConfig()
    if agc.temperatures is not None:
        return ToneMapping(celsius=agc.temperatures, polarity=config.polarity)
    if agc.mode == "off":
        return ToneMapping(polarity=config.polarity)
    mode: GainMode = "linear" if agc.mode == "auto" else agc.mode
    return ToneMapping(
        gain=GainSettings(mode, agc.adapt_ns, agc.region),
        automatic=agc.mode == "auto",
        eight_bit=config.agc is not None,
        polarity=config.polarity,
    )
