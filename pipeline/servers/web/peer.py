"""One WebRTC connection that sends H.264 access units without transcoding. Requires aiortc; imported at use.

Nothing is sent to unverified addresses: STUN and TURN servers are not used, host names in the offer are not resolved,
and its candidates are not tried. The only candidate is the address at which the viewer reached this server; packets go
to where the viewer's connectivity checks come from, which carry the password of the answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription

from fusepipe.core.frames import VIDEO_TIME_BASE
from fusepipe.pipeline.servers.web.video_feed import VideoFeed, Viewer

PROFILE = "42e01f"  # constrained baseline, level 3.1
# what aiortc raises for invalid SDP, and for an offer that it cannot accept
_UNREADABLE = (ValueError, IndexError, KeyError, AssertionError, AttributeError, TypeError, StopIteration)
_REFUSED = (ValueError, InvalidStateError, OperationError)


class OfferError(ValueError):
    """An invalid or unsupported offer."""


class Peer:
    """Answers one offer; ``viewer.connected`` and ``viewer.ended`` are its state."""

    def __init__(self, feed: VideoFeed, host: str) -> None:
        self._feed = feed
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
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
        self._ice.get_component_candidates = lambda component, addresses: gather(component, [host])
        sender._send_keyframe = self.viewer.request_key
        self._take_rtcp, sender._handle_rtcp_packet = sender._handle_rtcp_packet, self._report_received
        self._send_again, sender._retransmit = sender._retransmit, self._resend
        self._send, sender.transport._send_rtp = sender.transport._send_rtp, self._send_paced
        self._peer.on("connectionstatechange", self._changed)

    async def answer(self, offer: str) -> str:
        """The SDP that accepts ``offer``. Raises :class:`OfferError`."""
        readable = readable_offer(offer)
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
        return sum(protocol.transport.get_write_buffer_size() for protocol in self._ice._protocols)


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


def readable_offer(text: str) -> str:
    """The offer without its candidates. Raises :class:`OfferError` if it is not the offer of a player."""
    lines = [line for line in text.splitlines() if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    bare = "\r\n".join([*lines, ""])
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
