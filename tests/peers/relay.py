"""A bad network between an RTSP camera and its client: drops RTP packets, sets the camera's clock back, disconnects.

A proxy on a port of its own. It forwards RTSP unchanged except for the UDP ports in SETUP, and RTP and RTCP in both
directions; over TCP it only forwards bytes. Losses are random with a seed.
"""

from __future__ import annotations

import random
import re
import selectors
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

HOST = "127.0.0.1"
CLIENT_PORTS = re.compile(rb"client_port=(\d+)-(\d+)")
SERVER_PORTS = re.compile(rb"server_port=(\d+)-(\d+)")
SENDER_REPORT = 200


def port_pair() -> tuple[socket.socket, socket.socket]:
    """Two UDP sockets on an even port and the next one, as RTP and RTCP need."""
    for _ in range(200):
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        first.bind((HOST, 0))
        port = first.getsockname()[1]
        try:
            if port % 2 == 0:
                second.bind((HOST, port + 1))
                return first, second
        except OSError:
            pass  # the next port is another's: two others
        first.close()
        second.close()
    raise OSError("no free pair of UDP ports")


@dataclass(slots=True)
class Link:
    """One client's connection: TCP to both ends, and the UDP pair between them once SETUP has named ports."""

    client: socket.socket
    camera: socket.socket
    udp: tuple[socket.socket, ...] = ()
    client_ports: tuple[int, ...] = ()
    camera_ports: tuple[int, ...] = ()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return (self.client, self.camera, *self.udp)


@dataclass(slots=True)
class Harm:
    """Impairment of the camera's RTP packets: ``loss`` from 0 to 1, ``back_s`` seconds that its clock is set back."""

    loss: float = 0.0
    back_s: float = 0.0
    rng: random.Random = field(default_factory=random.Random)


class Relay:
    """``port`` is where clients connect; set ``harm`` at any time. ``packets`` counts those passed and lost."""

    def __init__(self, camera_port: int) -> None:
        self._camera_port = camera_port
        self.harm = Harm()
        self.packets: Counter[str] = Counter()
        self._links: list[Link] = []
        self._selector = selectors.DefaultSelector()
        self._listening = socket.create_server((HOST, 0))
        self.port = int(self._listening.getsockname()[1])
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._cut = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay-{self.port}")
        self._thread.start()

    def cut(self) -> None:
        """Closes every connection within a few milliseconds, without TEARDOWN; new ones are accepted."""
        self._cut.set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    # -- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.01):
                if self._selector.get_map().get(key.fd) is key:  # an event before this one may have closed it
                    key.data()
            if self._cut.is_set():
                self._cut.clear()
                for link in list(self._links):
                    self._end(link)
        for link in list(self._links):
            self._end(link)
        self._selector.close()
        self._listening.close()

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        try:
            camera = socket.create_connection((HOST, self._camera_port), timeout=2)
        except OSError:
            client.close()  # the camera is offline
            return
        link = Link(client, camera)
        self._links.append(link)
        self._watch(client, lambda: self._pass_text(link, client, camera, self._to_camera))
        self._watch(camera, lambda: self._pass_text(link, camera, client, self._to_client))

    def _watch(self, link: socket.socket, act: Callable[[], None]) -> None:
        self._selector.register(link, selectors.EVENT_READ, act)

    def _end(self, link: Link) -> None:
        self._links.remove(link)
        for each in link.sockets:
            self._selector.unregister(each)
            each.close()

    def _pass_text(
        self, link: Link, source: socket.socket, target: socket.socket, edit: Callable[[Link, bytes], bytes]
    ) -> None:
        try:
            data = source.recv(65536)
            if data:
                target.sendall(edit(link, data))
                return
        except OSError:
            pass  # reset by either end: the same as its end
        self._end(link)

    def _to_camera(self, link: Link, data: bytes) -> bytes:
        named = CLIENT_PORTS.search(data) if data.startswith(b"SETUP") else None
        if named is None:
            return data
        link.client_ports = tuple(int(port) for port in named.groups())
        if not link.udp:
            link.udp = port_pair()
            for number, each in enumerate(link.udp):
                self._watch(each, lambda number=number, each=each: self._pass_packet(link, number, each))
        first, second = (each.getsockname()[1] for each in link.udp)
        return CLIENT_PORTS.sub(b"client_port=%d-%d" % (first, second), data)

    def _to_client(self, link: Link, data: bytes) -> bytes:
        named = SERVER_PORTS.search(data) if data.startswith(b"RTSP/") else None
        if named is None or not link.udp:
            return data
        link.camera_ports = tuple(int(port) for port in named.groups())
        first, second = (each.getsockname()[1] for each in link.udp)
        data = SERVER_PORTS.sub(b"server_port=%d-%d" % (first, second), data)
        return CLIENT_PORTS.sub(b"client_port=%d-%d" % link.client_ports, data)

    def _pass_packet(self, link: Link, number: int, here: socket.socket) -> None:
        try:
            data, (_, sender) = here.recvfrom(65536)
        except OSError:
            return  # the other end's port has gone; TCP will say so
        if not link.camera_ports:
            return
        if sender != link.camera_ports[number]:
            here.sendto(data, (HOST, link.camera_ports[number]))
            return
        harm = self.harm
        if number == 0 and harm.rng.random() < harm.loss:
            self.packets["lost"] += 1
            return
        self.packets["passed"] += 1
        here.sendto(set_back(data, harm.back_s, rtcp=number == 1), (HOST, link.client_ports[number]))


def set_back(packet: bytes, seconds: float, *, rtcp: bool) -> bytes:
    """The packet from a camera whose media and wall clocks are ``seconds`` behind."""
    if not seconds:
        return packet
    data = bytearray(packet)
    at = 16 if rtcp else 4
    if rtcp and (len(data) < 28 or data[1] != SENDER_REPORT):
        return packet
    if rtcp:
        ntp = struct.unpack_from(">Q", data, 8)[0]
        struct.pack_into(">Q", data, 8, (ntp - round(seconds * 2**32)) % 2**64)
    ticks = struct.unpack_from(">I", data, at)[0]
    struct.pack_into(">I", data, at, (ticks - round(seconds * 90_000)) % 2**32)
    return bytes(data)
