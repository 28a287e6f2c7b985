"""Socket options of RTSP connections over TCP."""

from __future__ import annotations

import socket

SEND_BUFFER_BYTES = 1 << 18  # a larger system buffer would only hide that the peer is slow


def configure_socket(connection: socket.socket) -> None:
    """Low latency, a small send buffer, and keep-alive: a peer that vanished is detected within about a minute."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
