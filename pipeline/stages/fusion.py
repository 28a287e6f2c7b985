"""Fusion stage: visible luma + registered infrared luma -> fused luma; chroma is the visible one, weighted if asked.

The engine works on full-range luma. Limited-range luma is converted by one lookup table before and one after the
engine, exact inverses of each other on legal codes. Outside the infrared field of view the output is the visible luma,
code for code; the fused image is blended in from its border, since an edge there would look like an object. The engine
gets the infrared image with its edge pixels repeated outside the view, as warps give it: any other filling makes a step
at the border, which networks answer with halos inside of it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.common_view import common_view
from fusepipe.core import levels
from fusepipe.core.buffers import BufferPool
from fusepipe.core.colour_weight import weighted_chroma
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Frame, FramePair, FusedBy, FusedFrame, Luma8, PairState, Pixels, Plane
from fusepipe.core.fuser import Fuser, FusionBatch, Ticket
from fusepipe.core.view_settings import OutputColour

FADE = 1 / 12  # width of the blending zone inside the border of the infrared view, as a share of the frame width

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Blends two images around the part in which the first one is shown as it is.

    ``parts`` are rectangles of the image, each with the weights of the first and of the second image, float32 that sum
    to 1: 0 and 1 outside the infrared view, rising to 1 and 0 within its border. They rise smoothly (with slope 0 at
    both ends), so that not even a flat image shows where the view begins. ``unseen`` are rectangles of the second image
    alone.
    """

    parts: tuple[tuple[slice, slice, Weights, Weights], ...]
    unseen: tuple[tuple[slice, slice], ...] = ()

    def __call__(self, inside: Luma8, outside: Luma8) -> None:
        """Blends ``outside`` into ``inside``, both HxW uint8; ``inside`` is changed."""
        for place in self.unseen:
            inside[place] = outside[place]
        for rows, columns, weights, others in self.parts:
            part = inside[rows, columns]
            cv2.blendLinear(part, outside[rows, columns], weights, others, dst=part)


def blend_of(valid: Luma8) -> Blend:
    """The blend at the border of a view, from its mask (255 inside, else 0); of a narrow view half is not blended."""
    height, width = valid.shape
    inside_px = np.asarray(cv2.distanceTransform(valid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    fade_px = max(1.0, min(width * FADE, float(inside_px.max()) / 2))
    # in place: of a large picture each array takes tens of megabytes
    share = np.divide(inside_px, np.float32(fade_px), out=inside_px)
    np.minimum(share, np.float32(1), out=share)
    rise = np.multiply(share, np.float32(-2))
    rise += np.float32(3)
    np.multiply(share, share, out=share)
    weights: Weights = np.multiply(share, rise, out=share)
    del rise
    x, y, across, down = cv2.boundingRect(np.asarray(weights > 0, np.uint8))
    seen = x, y, x + across, y + down
    left, top, right, bottom = _unblended(weights)
    # an inner rectangle that is empty must not reach out of the view
    inner = (left, top, right, bottom) if right > left and bottom > top else (*seen[:2], *seen[:2])
    filled = (part for part in _around(inner, seen) if weights[part].size)
    unseen = (part for part in _around(seen, (0, 0, width, height)) if weights[part].size)
    blended = tuple((*part, weights[part].copy(), np.float32(1) - weights[part]) for part in filled)
    return Blend(blended, tuple(unseen))


def _around(inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> tuple[tuple[slice, slice], ...]:
    """Four rectangles, as rows and columns, that cover ``outer`` without ``inner``: each left, top, right, bottom."""
    left, top, right, bottom = inner
    return (
        (slice(outer[1], top), slice(outer[0], outer[2])),
        (slice(top, bottom), slice(outer[0], left)),
        (slice(top, bottom), slice(right, outer[2])),
        (slice(bottom, outer[3]), slice(outer[0], outer[2])),
    )


def _unblended(weights: Weights) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a large rectangle in which all weights are 1; empty where they are nowhere."""
    try:
        found = common_view(np.asarray((weights == 1) * np.uint8(255), np.uint8), (weights.shape[1], weights.shape[0]))
    except UsageError:  # smaller than what images are cropped to
        return 0, 0, 0, 0
    return found.left, found.top, found.left + found.width, found.top + found.height


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """The infrared field of view in the visible frame, computed once for each warp.

    ``output`` are the weights of the fused image.
    """

    version: str
    output: Blend


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    pair: FramePair
    ticket: Ticket | None  # None: only one frame, nothing to fuse
    batch: FusionBatch | None = None  # kept: the engine may read its images until it has finished
    substitute: FusedBy | None = None


class FusionStep:
    """Keeps up to ``max_in_flight`` requests in flight and returns results in order.

    With ``prompt``, for live rigs, a CPU engine gets one request at a time: a second one would wait inside the engine
    for the same cores while a newer pair may arrive.
    """

    def __init__(
        self, fuser: Fuser, *, colour: OutputColour = "visible", grey_without_visible: bool = True, prompt: bool = False
    ) -> None:
        self._fuser = self._own = fuser
        self._substitutes: list[Fuser] = []
        self._closed = False
        self._lock = threading.Lock()
        self.size: tuple[int, int] | None = None  # (height, width) of the pair that was fused last
        self._in_flight = 1 if prompt and fuser.info.device.startswith("cpu") else fuser.info.max_in_flight
        self._colour = colour
        self._grey = grey_without_visible
        self._pending: deque[_Pending] = deque()
        self._coverage: Coverage | None = None
        self._visible, self._fused = BufferPool(), BufferPool()

    @property
    def full(self) -> bool:
        return len(self._pending) >= self._in_flight

    @property
    def pending(self) -> int:
        return len(self._pending)

    def substitute(self, fuser: Fuser | None) -> None:
        """Fuses from the next pair on with another fuser, or with the rig's own again; any thread.

        Substitutes are closed by :meth:`close`; one that comes later is closed here.
        """
        with self._lock:
            if not self._closed:
                if fuser is not None and fuser not in self._substitutes:
                    self._substitutes.append(fuser)
                self._fuser = fuser or self._own
                return
        if fuser is not None:
            fuser.close()

    def close(self) -> None:
        """Closes the substitutes; the caller closes the rig's own fuser."""
        with self._lock:
            self._closed = True
        for fuser in self._substitutes:
            fuser.close()

    def submit(self, pair: FramePair) -> None:
        """Submits one pair; call :meth:`finish` first while :attr:`full`."""
        if pair.visible is None or pair.luma is None:
            self._pending.append(_Pending(pair, None))
            return
        fuser = self._fuser  # may be replaced by another thread meanwhile
        info = fuser.info
        substitute = None if fuser is self._own else FusedBy(info.model, info.backend, info.precision)
        self.size = (pair.visible.height, pair.visible.width)
        batch = self._batch(pair, pair.visible, whole=substitute is not None)
        self._pending.append(_Pending(pair, fuser.submit(batch), batch, substitute))

    def _batch(self, pair: FramePair, frame: Frame, *, whole: bool) -> FusionBatch:
        """The request for a pair with the visible ``frame``; ``whole``: with infrared at the visible size and geometry.

        Registration prepares the infrared image for the rig's own fuser; a substitute may take no other form.
        """
        visible = self._full_range(frame.luma)
        plane = pair.registered_luma() if whole else pair.luma
        assert plane is not None
        infrared = plane.pixels
        if pair.engine_warps and not whole:
            infrared = np.asarray(infrared, np.uint8)
            return FusionBatch((infrared,), (visible,), (frame.stream_id,), (pair.warp,))
        halvings = 0 if whole else pair.visible_levels
        return FusionBatch((np.asarray(infrared, np.uint8),), (visible,), (frame.stream_id,), visible_levels=halvings)

    def finish(self) -> FusedFrame:
        """Waits for the result of the oldest pair."""
        pending = self._pending.popleft()
        pair = pending.pair
        if pair.visible is None:
            return self._frame(pair, self._infrared_alone(pair))
        luma = pair.visible.luma
        if pending.ticket is None:
            return self._frame(pair, (luma, *self._chroma(pair.visible)))
        fused = pending.ticket.result()[0]
        coverage = self._coverage_of(pair)
        if luma.value_range == "limited":
            fused = self._mapped(fused, levels.luma_to_limited(), self._fused)
        elif coverage is not None and not fused.flags.writeable:  # a rule that returns one of its inputs
            fused = fused.copy()
        if coverage is not None:
            coverage.output(fused, np.asarray(luma.pixels, np.uint8))
        chroma = self._chroma(pair.visible)
        if self._colour == "weighted":
            chroma = weighted_chroma(fused, np.asarray(luma.pixels, np.uint8), chroma)
        planes = (Plane(fused, 8, luma.value_range), *chroma)
        return self._frame(pair, planes, pending.substitute)

    def _full_range(self, luma: Plane) -> Luma8:
        """As :func:`levels.full_range_luma`, in recycled memory."""
        if luma.value_range != "limited" or luma.pixels.dtype != np.uint8:
            return levels.full_range_luma(luma)
        return self._mapped(luma.pixels, levels.luma_to_full(), self._visible)

    @staticmethod
    def _mapped(pixels: Pixels, table: Luma8, pool: BufferPool) -> Luma8:
        mapped: Luma8 = pool.take(pixels.shape)
        cv2.LUT(pixels, table, dst=mapped)
        return mapped

    def _chroma(self, visible: Frame) -> tuple[Plane, ...]:
        return () if self._colour == "grey" else visible.chroma

    def _infrared_alone(self, pair: FramePair) -> tuple[Plane, ...]:
        """Infrared luma, with neutral chroma if the output has colour, so that the format does not change."""
        luma = pair.registered_luma()
        assert luma is not None
        if self._grey or self._colour == "grey":
            return (luma,)
        height, width = luma.height, luma.width
        neutral = Plane(np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8))
        return luma, neutral, neutral

    def _coverage_of(self, pair: FramePair) -> Coverage | None:
        warp = pair.warp
        if warp is None or warp.valid is None:
            return None
        if self._coverage is None or self._coverage.version != warp.version:
            seen = pair.seen()
            assert seen is not None
            self._coverage = Coverage(warp.version, blend_of(seen))
        return self._coverage

    @staticmethod
    def _frame(pair: FramePair, planes: tuple[Plane, ...], substitute: FusedBy | None = None) -> FusedFrame:
        lead = pair.lead
        whole = pair.infrared is not None and pair.visible is not None
        state = pair.state if whole or pair.state is PairState.NO_SIGNAL else PairState.SINGLE
        return FusedFrame(
            pair=pair,
            planes=planes,
            state=state,
            index=pair.index,
            capture_ns=lead.capture_ns,
            pts=lead.pts,
            time_base=lead.time_base,
            matrix=lead.matrix,
            pixel_aspect=lead.pixel_aspect,
            name=pair.name,
            substitute=substitute,
        )
