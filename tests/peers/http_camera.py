"""An MJPEG camera over HTTP that refuses, hangs or sends other data than video on request."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Literal, Self

import cv2
import numpy as np

Mode = Literal["video", "unauthorized", "no video", "hang"]
FRAME_S = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=B\r\nConnection: close\r\n\r\n"


class HttpCamera:
    """Serves on a port of its own within a ``with`` block; ``mode`` applies from the next connection.

    ``bgr`` is the colour of its images.
    """

    def __init__(self, mode: Mode, bgr: tuple[int, int, int] = (90, 90, 90)) -> None:
        self.mode: Mode = mode
        self.connections = 0
        self._bgr = bgr
        self._part = _part(160, 120, bgr)
        self._over, self._dropped = threading.Event(), threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self._threads = [threading.Thread(target=self._accept, name="http-camera")]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/video"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        self._server.close()

    def drop(self) -> None:
        """Ends the video of the clients that are connected."""
        self._dropped.set()

    def show(self, width: int, height: int) -> None:
        """Has images of this size from the next one on."""
        self._part = _part(width, height, self._bgr)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self.connections += 1
            serving = threading.Thread(target=self._serve, args=(connection,), name="http-camera-client")
            self._threads.append(serving)
            serving.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            try:
                connection.recv(4096)
                self._answer(connection)
            except OSError:
                pass  # the client has gone

    def _answer(self, connection: socket.socket) -> None:
        if self.mode == "hang":
            self._over.wait()
        elif self.mode == "unauthorized":
            connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif self.mode == "no video":
            connection.sendall(HEAD + b"the camera is being set up\r\n" * 500)
        else:
            connection.sendall(HEAD)
            self._dropped.clear()
            while not self._over.wait(FRAME_S) and not self._dropped.is_set():
                connection.sendall(self._part)


def _part(width: int, height: int, bgr: tuple[int, int, int]) -> bytes:
    jpeg = cv2.imencode(".jpg", np.full((height, width, 3), bgr, np.uint8))[1].tobytes()
    return b"--B\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"
