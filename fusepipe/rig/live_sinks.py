"""From a rig's live outputs to sinks: what is served, pushed and shown. Part of :mod:`fusepipe.rig.compose`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusepipe.config.sinks import PreviewSink, RtspSink
from fusepipe.core.models import SINKS, resolve
from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions
from fusepipe.pipeline.servers.addresses import is_loopback
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.sinks.base import Sink

Warn = Callable[[str], None]


def rtsp_sink(config: RtspSink, *, fps: float | None, live: bool, warn: Warn) -> Sink:
    """A stream that is served, or pushed; warns where anyone on the network may watch."""
    place = config.endpoint
    options = LiveVideoOptions(config.encoder, config.crf, config.bitrate_bps, config.preset, config.key_frames_ns)
    credentials = Credentials(place.user, place.password) if place.user else None
    common: dict[str, Any] = {"credentials": credentials, "fps": fps, "live": live}
    if place.push:
        pushed: Sink = resolve(SINKS["rtsp+push"])(place.host, place.port, place.path, options, **common)
        return pushed
    made: Sink = resolve(SINKS["rtsp"])(
        place.host, place.port, place.path, options, max_clients=config.max_clients, **common
    )
    if credentials is None and not is_loopback(place.host):
        warn(
            f"{made.label} can be watched by anyone who reaches this machine; "
            f"write rtsp://USER:PASSWORD@{place.host}:{place.port}/{place.path}, or serve on 127.0.0.1"
        )
    return made


def preview_sink(config: PreviewSink, rig_name: str, record: Callable[[], dict[str, Any]], *, live: bool) -> Sink:
    """The page; ``record`` gives the run's record so far."""
    place = config.endpoint
    made: Sink = resolve(SINKS["preview"])(
        place.host,
        place.port,
        rig_name,
        record,
        token=config.token,
        names=config.hosts,
        max_clients=config.max_clients,
        live=live,
    )
    return made
