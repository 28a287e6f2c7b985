"""RTP packets and RTCP (RFC 3550); sender reports relate the RTP clock to wall-clock time. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fusepipe.core.frames import VIDEO_CLOCK_HZ
from fusepipe.core.units import S

PAYLOAD_TYPE = 96
PAYLOAD_BYTES = 1400  # an Ethernet frame less IP, UDP and RTP headers, with room for tunnels
REPORT_INTERVAL_NS = 5_000_000_000
_NTP_EPOCH_S = 2_208_988_800  # 1900 to 1970
_M32 = 0xFFFF_FFFF


def ticks(time_ns: int) -> int:
    """Nanoseconds as ticks of the 90 kHz clock, rounded, not wrapped."""
    return (time_ns * VIDEO_CLOCK_HZ + S // 2) // S


def ntp(unix_ns: int) -> tuple[int, int]:
    """UNIX time as an NTP timestamp: seconds since 1900 (modulo 2^32) and 2^-32 fractions of a second."""
    seconds, rest_ns = divmod(unix_ns, S)
    return (seconds + _NTP_EPOCH_S) & _M32, (rest_ns << 32) // S


@dataclass(slots=True)
class Sender:
    """The state of one RTP stream to one receiver: sequence number, counts, last sender report.

    Timestamps are capture times; sender reports map them to wall-clock time, so that a receiver knows when each
    frame was captured, not when it was sent.
    """

    ssrc: int
    sequence: int
    offset: int  # of the timestamps; random (RFC 3550, 5.1)
    cname: str = "fusepipe"
    packets: int = 0
    octets: int = 0
    _reported_ns: int | None = field(default=None, repr=False)

    def timestamp(self, capture_ns: int) -> int:
        return (ticks(capture_ns) + self.offset) & _M32

    def header(self, capture_ns: int, *, marker: bool, payload_bytes: int) -> bytes:
        """The 12-byte header of a packet; counts it as sent."""
        kind = PAYLOAD_TYPE | (0x80 if marker else 0)
        head = struct.pack(">BBHII", 0x80, kind, self.sequence, self.timestamp(capture_ns), self.ssrc)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.packets = (self.packets + 1) & _M32
        self.octets = (self.octets + payload_bytes) & _M32
        return head

    def packetise(self, payloads: Iterable[bytes], capture_ns: int) -> Iterator[bytes]:
        """The packets of one access unit; each is counted as sent when it is taken."""
        parts = tuple(payloads)
        for number, part in enumerate(parts, 1):
            yield self.header(capture_ns, marker=number == len(parts), payload_bytes=len(part)) + part

    def report_due(self, now_ns: int) -> bool:
        return self._reported_ns is None or now_ns - self._reported_ns >= REPORT_INTERVAL_NS

    def report(self, capture_ns: int, unix_ns: int, now_ns: int) -> bytes:
        """A compound packet: sender report and CNAME. ``unix_ns`` is the wall-clock time of ``capture_ns``."""
        self._reported_ns = now_ns
        seconds, fraction = ntp(unix_ns)
        body = struct.pack(
            ">IIIIII", self.ssrc, seconds, fraction, self.timestamp(capture_ns), self.packets, self.octets
        )
        name = self.cname.encode()[:255]
        chunk = struct.pack(">I", self.ssrc) + bytes((1, len(name))) + name
        chunk += bytes(4 - len(chunk) % 4)  # at least one zero byte ends the items
        return _rtcp(0, 200, body) + _rtcp(1, 202, chunk)

    def goodbye(self) -> bytes:
        """BYE after an empty receiver report: compound packets have to start with a report."""
        return _rtcp(0, 201, struct.pack(">I", self.ssrc)) + _rtcp(1, 203, struct.pack(">I", self.ssrc))


def _rtcp(count: int, kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0x80 | count, kind, len(body) // 4) + body
