"""RTP packet headers and RTCP (RFC 3550), and the two clocks that a sender report ties together. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

CLOCK_HZ = 90_000
PAYLOAD_TYPE = 96
# An Ethernet frame less IP, UDP and RTP headers, and room for tunnels.
PAYLOAD_BYTES = 1400
REPORT_INTERVAL_NS = 5_000_000_000
_NTP_EPOCH_S = 2_208_988_800  # 1900 to 1970
_SECOND_NS = 1_000_000_000
_M32 = 0xFFFF_FFFF


def ticks(time_ns: int) -> int:
    """Nanoseconds in units of the 90 kHz clock, rounded, not wrapped."""
    return (time_ns * CLOCK_HZ + _SECOND_NS // 2) // _SECOND_NS


def ntp(unix_ns: int) -> tuple[int, int]:
    """A time since 1970 as the seconds since 1900 (modulo 2^32) and their 2^-32 fractions."""
    seconds, rest_ns = divmod(unix_ns, _SECOND_NS)
    return (seconds + _NTP_EPOCH_S) & _M32, (rest_ns << 32) // _SECOND_NS


@dataclass(slots=True)
class Sender:
    """The state of one RTP stream to one receiver: sequence number, counts, last report.

    Timestamps are capture times, and a report says which wall-clock time a timestamp stands for: so a
    receiver knows when each picture was captured, not when it was sent.
    """

    ssrc: int
    sequence: int
    offset: int  # of the timestamps; random, as RFC 3550 wants it
    cname: str = "fusepipe"
    packets: int = 0
    octets: int = 0
    _reported_ns: int | None = field(default=None, repr=False)

    def timestamp(self, capture_ns: int) -> int:
        return (ticks(capture_ns) + self.offset) & _M32

    def header(self, capture_ns: int, *, marker: bool, payload_bytes: int) -> bytes:
        """The 12 bytes in front of a payload; counts the packet as sent."""
        kind = PAYLOAD_TYPE | (0x80 if marker else 0)
        head = struct.pack(">BBHII", 0x80, kind, self.sequence, self.timestamp(capture_ns), self.ssrc)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.packets = (self.packets + 1) & _M32
        self.octets = (self.octets + payload_bytes) & _M32
        return head

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
        chunk += bytes(4 - len(chunk) % 4)  # at least one zero ends the items
        return _rtcp(0, 200, body) + _rtcp(1, 202, chunk)

    def goodbye(self) -> bytes:
        """BYE, after an empty receiver report, as compound packets must begin with a report."""
        return _rtcp(0, 201, struct.pack(">I", self.ssrc)) + _rtcp(1, 203, struct.pack(">I", self.ssrc))


def _rtcp(count: int, kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0x80 | count, kind, len(body) // 4) + body
