"""Makes sinks that are watched while the rig runs: RTSP served, RTSP pushed, the preview page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from fusepipe.config.schema import Rig
from fusepipe.config.sinks import PreviewSink, RtspSink
from fusepipe.core.passwords import PasswordHash
from fusepipe.core.rig_state import RigStatus
from fusepipe.pipeline.servers.addresses import is_loopback
from fusepipe.pipeline.servers.rtsp.digest import Credentials
from fusepipe.pipeline.sinks.base import Sink
from fusepipe.rig.factories.certificates import certificate_files, check_certificates

if TYPE_CHECKING:
    from fusepipe.pipeline.servers.web.alignment import AlignmentControl
    from fusepipe.pipeline.servers.web.users import PageUser

Warn = Callable[[str], None]


def rtsp_sink(config: RtspSink, *, fps: float | None, live: bool, warn: Warn) -> Sink:
    """A stream that is served or pushed; warns where a served stream is open to the network without a password."""
    from fusepipe.pipeline.encoding.live_encoder import LiveVideoOptions

    at = config.endpoint
    options = LiveVideoOptions(config.encoder, config.crf, config.bitrate_bps, config.preset, config.key_frames_ns)
    credentials = Credentials(at.user, at.password) if at.user else None
    if at.push:
        from fusepipe.pipeline.sinks.live.rtsp_push import RtspPushSink

        return RtspPushSink(at.host, at.port, at.path, options, credentials=credentials, fps=fps, live=live)
    from fusepipe.pipeline.sinks.live.rtsp import RtspServerSink

    server = RtspServerSink(
        at.host,
        at.port,
        at.path,
        options,
        credentials=credentials,
        max_clients=config.max_clients,
        fps=fps,
        live=live,
        tls=certificate_files(config),
    )
    if credentials is None and not is_loopback(at.host):
        scheme = "rtsps" if at.tls else "rtsp"
        warn(
            f"{server.label} can be watched by anyone who can reach this machine; "
            f"write {scheme}://USER:PASSWORD@{at.host}:{at.port}/{at.path}, or serve on 127.0.0.1"
        )
    return server


def preview_sink(
    config: PreviewSink,
    rig_name: str,
    report: Callable[[], dict[str, Any]],
    *,
    live: bool,
    warn: Warn,
    alignment: AlignmentControl | None = None,
) -> Sink:
    """The preview page; ``report`` returns the run's report so far. Warns where passwords cross a network as text."""
    from fusepipe.pipeline.servers.web.ice import IceServer
    from fusepipe.pipeline.sinks.live.preview import WebPreviewSink

    sink = WebPreviewSink(
        config.endpoint.host,
        config.endpoint.port,
        rig_name,
        report,
        token=config.token,
        users=_users(config),
        names=config.hosts,
        max_clients=config.max_clients,
        live=live,
        tls=certificate_files(config),
        ice_servers=tuple(IceServer(each.urls, each.username, each.credential) for each in config.ice_servers),
        view=config.view.settings(),
        alignment=alignment,
    )
    if config.users and not config.endpoint.tls and not is_loopback(config.endpoint.host):
        warn(
            f"{sink.label}: passwords of its users are sent without encryption; write https:// with certificate and "
            "key, or serve on 127.0.0.1 behind a proxy with TLS"
        )
    return sink


def list_on_previews(rig: Rig, status: Callable[[], RigStatus], stack: ExitStack) -> list[str]:
    """Lists a rig with its status on its preview pages until ``stack`` is closed, whether it runs or not.

    Returns a line for each page, with its address. Raises :class:`ConfigError` for a certificate, :class:`SinkError` if
    a page cannot be served.
    """
    check_certificates(rig, _ignore, (PreviewSink,))
    lines = []
    for config in rig.sinks:
        if isinstance(config, PreviewSink):
            from fusepipe.pipeline.sinks.live.preview import PreviewStatus

            at = config.endpoint
            page = PreviewStatus(
                at.host,
                at.port,
                rig.name,
                status,
                token=config.token,
                users=_users(config),
                names=config.hosts,
                tls=certificate_files(config),
            )
            stack.callback(page.close)
            lines.append(f"{rig.name}: {page.announcement}")
    return lines


def _users(config: PreviewSink) -> tuple[PageUser, ...]:
    from fusepipe.pipeline.servers.web.users import PageUser, Role

    return tuple(PageUser(user.name, Role(user.role), PasswordHash.parse(user.password_hash)) for user in config.users)


def _ignore(warning: str) -> None:
    """For warnings that opening the rig gives too."""
