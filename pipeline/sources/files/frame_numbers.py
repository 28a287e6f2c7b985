"""Frame numbers of AVI files, in which dropped frames are empty chunks and frames have no presentation times."""

from __future__ import annotations

from collections.abc import Callable


class FrameNumbers:
    """The number of each decoded frame, on the file's constant rate, from the numbers of the packets.

    FFmpeg gives the number of a packet's chunk as its decoding time; numbers are missing where frames were dropped.
    Decoders output frames in presentation order; one that ``reorders`` outputs frame k after reading packet k + delay.
    """

    def __init__(self, reorders: Callable[[], bool]) -> None:
        self._reorders = reorders
        self._packets = 0  # read
        self._frames = 0  # output
        self._number: int | None = None  # of the last packet
        self._last = -1  # number given last

    def packet(self, number: int | None) -> None:
        """Notes a packet that is about to be decoded; ``None`` for the one that flushes the decoder."""
        self._number = number
        if number is not None:
            self._packets += 1

    def next(self) -> int:
        """The number of the next frame that was decoded, or could not be; increases."""
        self._frames += 1
        if self._number is None:
            number = self._last + 1
        else:
            number = self._number - (max(0, self._packets - self._frames) if self._reorders() else 0)
        self._last = max(number, self._last + 1)
        return self._last
