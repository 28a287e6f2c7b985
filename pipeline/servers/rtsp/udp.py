"""A pair of UDP sockets on one local address: RTP out, RTCP out and in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_TRIES = 50
_SEND_BUFFER_BYTES = 1 << 20  # room for one key frame to several clients
Address = tuple[str, int]


class UdpPair:
    """Bound to an even port of ``ip`` and the next one; ``received`` is called with the sender of each RTCP packet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ip: str, received: Callable[[Address], None]) -> None:
        self._loop = loop
        self._received = received
        self._rtp, self._rtcp = _bind_pair(ip)
        self.ports = (int(self._rtp.getsockname()[1]), int(self._rtcp.getsockname()[1]))
        for each in (self._rtp, self._rtcp):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            loop.add_reader(each, self._read, each)

    def send(self, data: bytes, to: Address, *, rtcp: bool = False) -> bool:
        """Sends without blocking; ``False`` if the system did not accept it, equivalent to packet loss."""
        try:
            (self._rtcp if rtcp else self._rtp).sendto(data, to)
        except OSError:  # buffer full (EAGAIN), port unreachable, no route
            return False
        return True

    def close(self) -> None:
        for each in (self._rtp, self._rtcp):
            self._loop.remove_reader(each)
            each.close()

    def _read(self, which: socket.socket) -> None:
        for _ in range(64):  # then yield to other tasks
            try:
                _, sender = which.recvfrom(2048)
            except OSError:
                return  # nothing to read, or an ICMP error of an earlier packet
            self._received((sender[0], sender[1]))


def _bind_pair(ip: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for _ in range(_TRIES):
        rtp, rtcp = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            rtp.bind((ip, 0))
            port = rtp.getsockname()[1]
            if port % 2 == 0:
                rtcp.bind((ip, port + 1))
                return rtp, rtcp
        except OSError:
            pass  # the next port is in use: retry with others
        rtp.close()
        rtcp.close()
    raise OSError(f"no free pair of UDP ports on {ip}")
