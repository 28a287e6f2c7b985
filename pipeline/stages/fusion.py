"""Fusion stage: visible luma + registered infrared luma -> fused luma; chroma passes through untouched.

The engine works on full-range luma. Where the visible stream is limited-range, its luma goes through
one table on the way in and one on the way out; both are exact inverses on legal codes. Where the
infrared camera does not see, the output is the visible luma, code for code; the fused image fades in
from the border of the infrared view, since a hard edge there looks like an object.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core import levels
from fusepipe.core.frames import Frame, FramePair, FusedFrame, Luma8, PairState, Plane, Warp
from fusepipe.core.fuser import Fuser, FusionBatch, Ticket

FADE = 1 / 64  # of the picture's width: how far inside the border of the infrared view the fade ends

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """What the infrared camera sees, as the fusion needs it; computed once a warp.

    ``hidden`` is HxW uint8, 255 where it does not see. ``fused`` and ``visible`` are HxW float32 weights
    that sum to 1: ``fused`` is 0 where hidden and rises to 1 within the fade.
    """

    version: str
    hidden: Luma8
    fused: Weights
    visible: Weights


def view_of(version: str, valid: Luma8) -> _View:
    """The masks of a warp's HxW uint8 ``valid`` (255 where the infrared camera sees, else 0)."""
    fade_px = max(1.0, valid.shape[1] * FADE)
    inside_px = np.asarray(cv2.distanceTransform(valid, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    fused = np.minimum(inside_px / np.float32(fade_px), np.float32(1))
    return _View(version, np.asarray(cv2.bitwise_not(valid), np.uint8), fused, np.float32(1) - fused)


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    pair: FramePair
    ticket: Ticket | None  # None: there is only one frame, nothing to fuse


class FusionStep:
    """Keeps up to ``max_in_flight`` requests under way and hands results out in the order they came.

    A ``prompt`` one, for live rigs, starts no second request where both would share the same cores: it would only wait
    inside the engine, while a newer pair may come.
    """

    def __init__(
        self, fuser: Fuser, *, keep_colour: bool = True, grey_without_visible: bool = True, prompt: bool = False
    ) -> None:
        self._fuser = fuser
        self._in_flight = 1 if prompt and fuser.info.device.startswith("cpu") else fuser.info.max_in_flight
        self._keep_colour = keep_colour
        self._grey = grey_without_visible
        self._pending: deque[_Pending] = deque()
        self._view: _View | None = None

    @property
    def full(self) -> bool:
        return len(self._pending) >= self._in_flight

    @property
    def pending(self) -> int:
        return len(self._pending)

    def submit(self, pair: FramePair) -> None:
        """Starts one pair; call :meth:`finish` first while :attr:`full`."""
        if pair.visible is None or pair.luma is None:
            self._pending.append(_Pending(pair, None))
            return
        visible = levels.full_range_luma(pair.visible.luma)
        infrared = pair.luma.pixels
        if pair.engine_warps:
            infrared = np.asarray(infrared, np.uint8)
            batch = FusionBatch((infrared,), (visible,), (pair.visible.stream_id,), (pair.warp,))
            self._pending.append(_Pending(pair, self._fuser.submit(batch)))
            return
        view = self._view_of(pair.warp)
        if view is not None:
            # no false edge at the border of the infrared view: the engine sees the visible image there
            infrared = cv2.copyTo(visible, view.hidden, infrared.copy())
        batch = FusionBatch((np.asarray(infrared, np.uint8),), (visible,), (pair.visible.stream_id,))
        self._pending.append(_Pending(pair, self._fuser.submit(batch)))

    def finish(self) -> FusedFrame:
        """The oldest pair's result; waits for it."""
        pending = self._pending.popleft()
        pair = pending.pair
        if pair.visible is None:
            return self._frame(pair, self._infrared_alone(pair))
        luma = pair.visible.luma
        if pending.ticket is None:
            return self._frame(pair, (luma, *self._chroma(pair.visible)))
        fused = pending.ticket.result()[0]
        if luma.value_range == "limited":
            fused = np.asarray(cv2.LUT(fused, levels.luma_to_limited()), dtype=np.uint8)
        view = self._view_of(pair.warp)
        if view is not None:
            fused = np.asarray(cv2.blendLinear(fused, luma.pixels, view.fused, view.visible), dtype=np.uint8)
        return self._frame(pair, (Plane(fused, 8, luma.value_range), *self._chroma(pair.visible)))

    def _chroma(self, visible: Frame) -> tuple[Plane, ...]:
        return visible.chroma if self._keep_colour else ()

    def _infrared_alone(self, pair: FramePair) -> tuple[Plane, ...]:
        """Infrared luma with neutral chroma where the output is colour, so that no sink sees a change."""
        luma = pair.registered_luma()
        assert luma is not None
        if self._grey or not self._keep_colour:
            return (luma,)
        height, width = luma.height, luma.width
        neutral = Plane(np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8))
        return luma, neutral, neutral

    def _view_of(self, warp: Warp | None) -> _View | None:
        if warp is None or warp.valid is None:
            return None
        if self._view is None or self._view.version != warp.version:
            self._view = view_of(warp.version, warp.valid)
        return self._view

    @staticmethod
    def _frame(pair: FramePair, planes: tuple[Plane, ...]) -> FusedFrame:
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
        )
