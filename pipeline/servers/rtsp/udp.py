"""The server's two UDP sockets for one of its addresses: RTP out, RTCP out and in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_TRIES = 50
_SEND_BUFFER_BYTES = 1 << 20  # a key frame for a few clients, at once
Address = tuple[str, int]


class UdpPair:
    """Bound to an even port and the next one of ``ip``. ``heard`` gets the address of each RTCP packet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ip: str, heard: Callable[[Address], None]) -> None:
        self._loop = loop
        self._heard = heard
        self._rtp, self._rtcp = _bind_pair(ip)
        self.ports = (int(self._rtp.getsockname()[1]), int(self._rtcp.getsockname()[1]))
        for each in (self._rtp, self._rtcp):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            loop.add_reader(each, self._read, each)

    def send(self, data: bytes, to: Address, *, rtcp: bool = False) -> bool:
        """``False`` where the system did not take it: like a loss on the way, never a wait."""
        try:
            (self._rtcp if rtcp else self._rtp).sendto(data, to)
        except OSError:  # full (EAGAIN), refused by the peer before, no route
            return False
        return True

    def close(self) -> None:
        for each in (self._rtp, self._rtcp):
            self._loop.remove_reader(each)
            each.close()

    def _read(self, which: socket.socket) -> None:
        for _ in range(64):  # then let others have their turn
            try:
                _, sender = which.recvfrom(2048)
            except OSError:
                return  # nothing there, or the news that a packet of ours was refused
            self._heard((sender[0], sender[1]))


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
            pass  # the port above is taken: the next try gets others
        rtp.close()
        rtcp.close()
    raise OSError(f"no two neighbouring UDP ports are free on {ip}")
