"""The tone mapping of a rig: the fixed range or the gain control that its keys ask for."""

from __future__ import annotations

import logging
from functools import partial

from fusepipe.config.gain import AgcConfig
from fusepipe.config.sources import SourceConfig
from fusepipe.core.counts import CountSettings
from fusepipe.pipeline.stages.gain_control import GainMode, GainSettings
from fusepipe.pipeline.stages.tonemap import ToneMap, ToneMapping
from fusepipe.rig.factories.live_sinks import Warn

log = logging.getLogger(__name__)


def make_tone_map(config: SourceConfig, settings: CountSettings, warn: Warn, *, mapped: bool) -> ToneMap:
    """The tone mapping of the infrared camera; ``mapped``: its source has applied the range, to values in degrees."""
    return ToneMap(
        tone_mapping(config, mapped=mapped), warn, None if mapped else settings, note=partial(log.info, "%s")
    )


def tone_mapping(config: SourceConfig, *, mapped: bool = False) -> ToneMapping:
    """What the keys ``range``, ``agc`` and ``polarity`` of a camera mean."""
    if config.value_range is not None:
        return ToneMapping(None if mapped else config.count_range, polarity=config.polarity)
    agc = config.agc or AgcConfig()
    if agc.mode == "off":
        return ToneMapping(polarity=config.polarity)
    mode: GainMode = "linear" if agc.mode == "auto" else agc.mode
    return ToneMapping(
        gain=GainSettings(mode, agc.adapt_ns, agc.region),
        automatic=agc.mode == "auto",
        eight_bit=config.agc is not None,
        polarity=config.polarity,
    )
