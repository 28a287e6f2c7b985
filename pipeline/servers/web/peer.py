"""One WebRTC connection that sends H.264 access units without transcoding. Requires aiortc; imported at use.

Nothing is sent to unverified addresses: no STUN or TURN server is used, host names in the offer are not resolved, and
its candidates are not tried. The only candidate is the address at which the viewer reached this server; packets go to
where the viewer's connectivity checks come from, which carry the password of the answer.

With STUN or TURN servers of the rig file that does not suffice: a NAT lets the viewer's checks in, and a TURN server
relays them, only once something was sent to the viewer. So the candidates of the offer are tried, those with addresses
(:func:`usable_candidates`); video is still sent only where a check was answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription

from fusepipe.core.frames import VIDEO_TIME_BASE
from fusepipe.pipeline.servers.addresses import is_loopback
from fusepipe.pipeline.servers.web.ice import IceServer, usable_candidates
from fusepipe.pipeline.servers.web.video_feed import VideoFeed, Viewer

PROFILE = "42e01f"  # constrained baseline, level 3.1
# what aiortc raises for invalid SDP, and for an offer that it cannot accept
_UNREADABLE = (ValueError, IndexError, KeyError, AssertionError, AttributeError, TypeError, StopIteration)
_TURN_PROTOCOL = "_TurnTransport__inner_protocol"  # no public name: the tests with a TURN server fail if it is renamed
GATHER_S = 3.0  # how long STUN and TURN servers have to answer
_REFUSED = (ValueError, InvalidStateError, OperationError)


class OfferError(ValueError):
    """An invalid or unsupported offer."""


class Peer:
    """Answers one offer; ``viewer.connected`` and ``viewer.ended`` are its state."""

    def __init__(self, feed: VideoFeed, host: str, ice_servers: Sequence[IceServer] = ()) -> None:
        self._feed, self._host, self._ice_servers = feed, host, ice_servers
        servers = [RTCIceServer(list(each.urls), each.username, each.credential) for each in ice_servers]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.viewer = Viewer(self._backlog_bytes)
        transceiver = self._peer.addTransceiver(_Track(self), direction="sendonly")
        transceiver.setCodecPreferences(
            [codec for codec in RTCRtpSender.getCapabilities("video").codecs if _supported(codec)]
        )
        # aiortc has no public API for choosing the address and for loss reports. The tests of this module fail if
        # a later version renames these attributes.
        self._sender: Any = transceiver.sender
        sender = self._sender
        self._ice: Any = sender.transport.transport.iceGatherer._connection
        gather = self._ice.get_component_candidates

        async def gather_here(component: int, addresses: list[str]) -> list[Any]:
            # a proxy on this machine hides the address that others reach it at
            own = [host, *addresses] if ice_servers and is_loopback(host) else [host]
            return list(await gather(component, own, GATHER_S))

        self._ice.get_component_candidates = gather_here
        sender._send_keyframe = self.viewer.request_key
        self._take_rtcp, sender._handle_rtcp_packet = sender._handle_rtcp_packet, self._report_received
        self._send_again, sender._retransmit = sender._retransmit, self._resend
        self._send, sender.transport._send_rtp = sender.transport._send_rtp, self._send_paced
        self._peer.on("connectionstatechange", self._changed)

    async def answer(self, offer: str) -> str:
        """The SDP that accepts ``offer``. Raises :class:`OfferError`."""
        readable = readable_offer(offer, self._host if self._ice_servers else None)
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(sdp=readable, type="offer"))
            await self._peer.setLocalDescription()
        except _REFUSED as error:
            raise OfferError("the offer has no H.264 constrained baseline profile, or is invalid") from error
        return str(self._peer.localDescription.sdp)

    @property
    def addressed(self) -> bool:
        """Whether it has a local candidate; after :meth:`answer`."""
        return bool(self._ice.local_candidates)

    @property
    def relay_missing(self) -> bool:
        """Whether a TURN server is configured and gave no address; after :meth:`answer`."""
        return self._ice.turn_server is not None and not any(c.type == "relay" for c in self._ice.local_candidates)

    async def close(self) -> None:
        self.viewer.ended.set()
        await self._peer.close()

    def sending(self) -> None:
        """The connection is established and requests its first frame."""
        if not self.viewer.connected.is_set():
            self._feed.connected(self.viewer)

    async def _report_received(self, packet: Any) -> None:
        """Passes the loss reports of the player to the link rate estimate."""
        for report in getattr(packet, "reports", ()):
            if report.ssrc == self._sender._ssrc:
                now_ns = time.monotonic_ns()
                self.viewer.link.report(report.fraction_lost / 256, report.highest_sequence, now_ns)
        await self._take_rtcp(packet)

    async def _resend(self, sequence: int) -> None:
        """Retransmits only if the link has capacity for it."""
        if self.viewer.link.may_retransmit():
            await self._send_again(sequence)

    async def _send_paced(self, packet: bytes) -> None:
        await asyncio.sleep(self.viewer.link.pause_s(len(packet)))
        await self._send(packet)

    def _changed(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self.viewer.ended.set()

    def _backlog_bytes(self) -> int:
        return sum(_backlog_bytes(protocol.transport) for protocol in self._ice._protocols)


class _Track(MediaStreamTrack):  # type: ignore[misc]
    """The media track of aiortc's sender, which packetises encoded packets without transcoding."""

    kind = "video"

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._peer = peer

    async def recv(self) -> av.Packet[Any]:
        if self.readyState != "live":
            raise MediaStreamError
        self._peer.sending()
        unit, pts = await self._peer.viewer.next()
        packet = av.Packet(unit.annex_b())
        packet.pts, packet.time_base = pts, VIDEO_TIME_BASE
        return packet


def _supported(codec: Any) -> bool:
    if codec.name.lower() == "rtx":
        return True
    return bool(codec.name == "H264" and codec.parameters.get("profile-level-id") == PROFILE)


def _backlog_bytes(transport: Any) -> int:
    """What waits to be sent, for a relayed transport on its way to the TURN server."""
    if not hasattr(transport, "get_write_buffer_size"):
        transport = getattr(transport, _TURN_PROTOCOL).transport
    return int(transport.get_write_buffer_size())


def readable_offer(text: str, host: str | None = None) -> str:
    """The offer without its candidates or, with the ``host`` that the viewer reached, with those that are tried.

    Raises :class:`OfferError` if it is not the offer of a player.
    """
    lines = text.splitlines()
    kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    if host is not None:  # there is one section, to which they belong
        kept += usable_candidates((line for line in lines if line.startswith("a=candidate:")), host)
    bare = "\r\n".join([*kept, ""])
    try:
        media = SessionDescription.parse(bare).media
        kinds = [section.kind for section in media]
        secured = all(m.dtls and m.dtls.fingerprints and m.ice.usernameFragment and m.ice.password for m in media)
    except _UNREADABLE as error:
        raise OfferError("not the SDP of a WebRTC offer") from error
    if kinds != ["video"]:
        raise OfferError(f"an offer needs exactly one video section; this one has: {', '.join(kinds)[:80] or 'none'}")
    if not secured or not media[0].rtcp_mux or media[0].direction not in ("recvonly", "sendrecv"):
        raise OfferError("an offer needs ICE credentials, a DTLS fingerprint, rtcp-mux and recvonly or sendrecv")
    return bare
