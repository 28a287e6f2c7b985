"""The ``Fuser`` protocol of all fusion methods and engines, and the base class that most share.

A fuser takes registered infrared luma and visible luma, both HxW uint8 full range of equal size, any
size from 1x1 and any row stride, and gives fused luma of that size. Requests may be in flight
together; results come by ticket, and each ticket holds its own result, so order is the caller's.

Threads: every method may be called from any thread, and several threads may share one fuser: requests
are started one after the other, and each call gets the result of its own images. ``close`` finishes the
requests in flight; later calls raise :class:`EngineError`. Input arrays must not change until the result
has been returned. The arrays of a result belong to the caller.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, overload

import numpy as np

from fusepipe.core.array_images import ChannelOrder, CountRange, pair_of_arrays
from fusepipe.core.errors import EngineError, FusepipeError, UsageError
from fusepipe.core.frames import Luma8, Warp


@dataclass(frozen=True, slots=True)
class FuserInfo:
    """Model, backend and precision of a fuser, and the requests it takes.

    ``device`` is where it computes; ``reason`` why this backend and precision were chosen. ``max_in_flight``
    is the number of requests that it computes concurrently; ``max_batch`` the largest batch.
    ``max_visible_levels``: the infrared image may be smaller than the visible one, by at most this many halvings
    (:attr:`FusionBatch.visible_levels`).
    """

    model: str
    backend: str
    precision: str
    device: str = "cpu"
    reason: str = ""
    accepts_warp: bool = False
    max_in_flight: int = 1
    max_batch: int = 1
    max_visible_levels: int = 0


def halved(side: int, times: int) -> int:
    """A side of an image that is halved ``times`` times, rounding up."""
    return -(-side >> times) if times else side


@dataclass(frozen=True, slots=True, eq=False)
class FusionBatch:
    """1..N pairs of HxW uint8 images of one size, with the stream each belongs to.

    ``warps`` is empty, or has one warp (or ``None``) a pair for fusers that declare ``accepts_warp``;
    ``infrared`` then holds the raw infrared planes. ``visible_levels``: how many times the visible size is halved,
    rounding up, to get that of the registered infrared images; for fusers that declare ``max_visible_levels``.
    """

    infrared: Sequence[Luma8]
    visible: Sequence[Luma8]
    stream_ids: Sequence[str] = ()
    warps: Sequence[Warp | None] = ()
    visible_levels: int = 0

    def __post_init__(self) -> None:
        if not self.infrared or len(self.infrared) != len(self.visible):
            raise UsageError(
                f"a batch has equally many infrared and visible images, at least one; "
                f"got {len(self.infrared)} and {len(self.visible)}"
            )
        for band, images in (("infrared", self.infrared), ("visible", self.visible)):
            for image in images:
                if image.dtype != np.uint8 or image.ndim != 2 or image.size == 0:
                    raise UsageError(f"a fuser takes HxW uint8 images; {band} is {image.dtype} of shape {image.shape}")
        shape = self.visible[0].shape
        reduced = tuple(halved(side, self.visible_levels) for side in shape)
        for band, images, expected in (("infrared", self.infrared, reduced), ("visible", self.visible, shape)):
            for image in images:
                if image.shape != expected and not (self.warps and band == "infrared"):
                    raise UsageError(
                        f"infrared and visible differ in size: {band} {image.shape} and {expected}; register them first"
                    )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the visible images."""
        height, width = self.visible[0].shape
        return int(height), int(width)


class Ticket(Protocol):
    """A pending result."""

    def result(self, timeout_s: float = ...) -> list[Luma8]:
        """The fused HxW uint8 images, one a pair, in the order of the batch.

        Raises :class:`EngineError` when the engine failed or did not answer within ``timeout_s``.
        Further calls return the same arrays.
        """


class Fuser(Protocol):
    """A fusion method or engine; see the module's docstring for shapes and threads."""

    @property
    def info(self) -> FuserInfo: ...

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Compiles and allocates for this size, so that ``submit`` does not have to."""

    def submit(self, batch: FusionBatch) -> Ticket:
        """Starts a request; blocks only while ``max_in_flight`` requests are unfinished.

        Safe from any thread; the ticket holds the results of this batch only. Do not change the images of
        ``batch`` before ``Ticket.result`` has returned.
        """

    @overload
    def fuse(self, infrared: Luma8, visible: Luma8) -> Luma8: ...
    @overload
    def fuse(
        self,
        infrared: Any,
        visible: Any,
        *,
        channels: ChannelOrder = ...,
        infrared_range: CountRange | None = ...,
        visible_range: CountRange | None = ...,
    ) -> Any: ...

    def close(self) -> None:
        """Waits for requests in flight and frees all resources; may be called twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FuserBase(ABC):
    """The parts of a :class:`Fuser` that all share: ``fuse``, context manager, closing."""

    info: FuserInfo

    def __init__(self) -> None:
        self._closed = False

    def prepare(self, height: int, width: int, batch: int = 1) -> None:  # noqa: B027 - most rules need no preparation
        """Nothing to prepare."""

    @abstractmethod
    def submit(self, batch: FusionBatch) -> Ticket:
        """Starts one request; see :class:`Fuser`."""

    @overload
    def fuse(self, infrared: Luma8, visible: Luma8) -> Luma8: ...
    @overload
    def fuse(
        self,
        infrared: Any,
        visible: Any,
        *,
        channels: ChannelOrder = ...,
        infrared_range: CountRange | None = ...,
        visible_range: CountRange | None = ...,
    ) -> Any: ...
    def fuse(
        self,
        infrared: Any,
        visible: Any,
        *,
        channels: ChannelOrder = "bgr",
        infrared_range: CountRange | None = None,
        visible_range: CountRange | None = None,
    ) -> Any:
        """Fuses one registered pair of one size synchronously; calls ``prepare`` where needed.

        NumPy arrays are HxW, HxWx3 or HxWx4 (``channels``; opacity is ignored), uint8 or uint16; PyTorch tensors also
        3xHxW, on any device. 16-bit counts are mapped to 8 bit linearly from ``infrared_range`` and ``visible_range``,
        the counts of black and white, by default 0..65535, with a warning where that leaves little contrast. The result
        is like the visible image, with its colour, in uint8.

        Safe from any thread. Raises :class:`UsageError` for images that do not fit, :class:`EngineError` if the
        engine fails or is closed.
        """
        images = pair_of_arrays(
            infrared, visible, channels=channels, infrared_range=infrared_range, visible_range=visible_range
        )
        return images.result(self._fuse_luma(images.infrared, images.visible))

    def _fuse_luma(self, infrared: Luma8, visible: Luma8) -> Luma8:
        return self.submit(FusionBatch((infrared,), (visible,))).result()[0]

    def close(self) -> None:
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise EngineError(f"the fuser {self.info.model!r} is closed; create another with load_fuser")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True, eq=False)
class ReadyTicket:
    """A result that is available immediately, from a synchronous fuser."""

    images: list[Luma8]

    def result(self, timeout_s: float = 0.0) -> list[Luma8]:
        return self.images


def as_engine_error(error: Exception) -> FusepipeError:
    """An exception of an engine's thread as the error to raise to the caller: an :class:`EngineError` if not ours."""
    if isinstance(error, FusepipeError):
        return error
    named = EngineError(f"the engine failed: {type(error).__name__}: {error}")
    named.__cause__ = error
    return named


class EngineTicket:
    """A result that the engine's thread delivers."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._images: list[Luma8] = []
        self._error: FusepipeError | None = None

    def deliver(self, images: list[Luma8], error: FusepipeError | None = None) -> None:
        """Sets the result; called once."""
        self._images, self._error = images, error
        self._ready.set()

    def result(self, timeout_s: float = 60.0) -> list[Luma8]:
        """See :class:`Ticket`; any thread."""
        if not self._ready.wait(max(0.0, timeout_s)):
            raise EngineError(f"the engine did not answer within {timeout_s:g} s; is the GPU overloaded or lost?")
        if self._error is not None:
            raise self._error
        return self._images


@dataclass(eq=False)
class FunctionFuser(FuserBase):
    """A fuser from one pure function (infrared, visible) -> fused, HxW uint8 each."""

    info: FuserInfo
    function: Callable[[Luma8, Luma8], Luma8]
    _closed: bool = field(default=False, init=False)

    def submit(self, batch: FusionBatch) -> Ticket:
        self._require_open()
        return ReadyTicket([self.function(i, v) for i, v in zip(batch.infrared, batch.visible, strict=True)])
