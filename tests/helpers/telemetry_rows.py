"""Telemetry rows byte by byte, from the tables of the datasheets."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

FFC = ("never", "imminent", "in progress", "complete")


def lepton_words(ffc: str = "complete", *, revision: int = 14, fpa_k100: int = 30715, frame: int = 70000) -> bytes:
    """Telemetry row A of a Lepton, 80 words: 70 s after the start, 12.5 s after the last correction."""
    row = bytearray(160)
    struct.pack_into("<H", row, 0, revision)
    struct.pack_into("<HH", row, 2, 70000 & 0xFFFF, 70000 >> 16)  # time counter in ms, low word first
    status = 1 << 3 | FFC.index(ffc) << 4 | 1 << 20
    struct.pack_into("<HH", row, 6, status & 0xFFFF, status >> 16)
    struct.pack_into("<8H", row, 10, *range(1, 9))  # serial number
    struct.pack_into("<HH", row, 40, frame & 0xFFFF, frame >> 16)
    struct.pack_into("<H", row, 44, 8000)  # mean of the frame
    struct.pack_into("<HHHH", row, 46, 8123, fpa_k100, 8050, 30600)  # sensor, housing: counts and K x 100
    struct.pack_into("<H", row, 58, 30500)
    struct.pack_into("<HH", row, 60, 57500, 0)  # time counter at the last correction
    return bytes(row)


def boson_words(ffc: str = "complete", *, revision: int = 3, fpa_k10: int = 3062, width: int = 640) -> bytes:
    """The telemetry line of a Boson at 60 Hz: frame 100000, the last correction 600 frames before."""
    row = bytearray(2 * width)
    struct.pack_into("<H", row, 0, revision)
    struct.pack_into("<HH", row, 2, 0, 12345)  # serial number, high word first
    struct.pack_into("<H", row, 56, 60)  # frame rate
    struct.pack_into("<H", row, 76, FFC.index(ffc) | 1 << 5)  # state of the correction, correction desired
    struct.pack_into("<HH", row, 84, 100000 >> 16, 100000 & 0xFFFF)
    struct.pack_into("<HH", row, 88, 99400 >> 16, 99400 & 0xFFFF)
    struct.pack_into("<HHH", row, 92, 9000, fpa_k10, 3055)
    if width > 141:
        struct.pack_into("<HH", row, 280, 1700000 >> 16, 1700000 & 0xFFFF)  # ms since the start
    return bytes(row)


def rows_of(words: bytes, width: int, rows: int = 2) -> NDArray[np.uint16]:
    """``rows`` rows of an image that begin with these words, little-endian as in the image."""
    made = np.zeros(rows * width, np.uint16)
    made[: len(words) // 2] = np.frombuffer(words, "<u2")
    return made.reshape(rows, width)
