"""Fusion stage: visible luma + registered infrared luma -> fused luma; chroma passes through untouched.

The engine works on full-range luma. Where the visible stream is limited-range, its luma goes through
one table on the way in and one on the way out; both are exact inverses on legal codes. Where the
infrared camera does not see, the output is the visible luma, code for code.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from fusepipe.frames import Frame, FramePair, FusedFrame, Luma8, PairState, Plane, Warp
from fusepipe.fuser import Fuser, FusionBatch, Ticket
from fusepipe.pipeline import levels


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    pair: FramePair
    ticket: Ticket | None  # None: there is only one frame, nothing to fuse


class FusionStep:
    """Keeps up to ``max_in_flight`` requests under way and hands results out in the order they came."""

    def __init__(self, fuser: Fuser, *, keep_colour: bool = True, grey_without_visible: bool = True) -> None:
        self._fuser = fuser
        self._keep_colour = keep_colour
        self._grey = grey_without_visible
        self._pending: deque[_Pending] = deque()
        self._hidden: tuple[str, Luma8] = ("", np.zeros((0, 0), np.uint8))

    @property
    def full(self) -> bool:
        return len(self._pending) >= self._fuser.info.max_in_flight

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
        hidden = self._hidden_mask(pair.warp)
        if hidden is not None:
            # no false edge at the border of the infrared view: the engine sees the visible image there
            infrared = cv2.copyTo(visible, hidden, infrared.copy())
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
        hidden = self._hidden_mask(pair.warp)
        if hidden is not None:
            fused = np.asarray(cv2.copyTo(luma.pixels, hidden, fused), dtype=np.uint8)
        return self._frame(pair, (Plane(fused, 8, luma.value_range), *self._chroma(pair.visible)))

    def _chroma(self, visible: Frame) -> tuple[Plane, ...]:
        return visible.chroma if self._keep_colour else ()

    def _infrared_alone(self, pair: FramePair) -> tuple[Plane, ...]:
        """Infrared luma with neutral chroma where the output is colour, so that no sink sees a change."""
        assert pair.luma is not None
        if self._grey or not self._keep_colour:
            return (pair.luma,)
        height, width = pair.luma.height, pair.luma.width
        neutral = Plane(np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8))
        return pair.luma, neutral, neutral

    def _hidden_mask(self, warp: Warp | None) -> Luma8 | None:
        """255 where the infrared camera does not see; computed once a warp."""
        if warp is None or warp.valid is None:
            return None
        if self._hidden[0] != warp.version:
            self._hidden = (warp.version, np.asarray(cv2.bitwise_not(warp.valid), dtype=np.uint8))
        return self._hidden[1]

    @staticmethod
    def _frame(pair: FramePair, planes: tuple[Plane, ...]) -> FusedFrame:
        lead = pair.lead
        state = pair.state if pair.infrared is not None and pair.visible is not None else PairState.SINGLE
        return FusedFrame(
            pair=pair,
            planes=planes,
            state=state,
            index=pair.index,
            capture_ns=lead.capture_ns,
            pts=lead.pts,
            time_base=lead.time_base,
            matrix=lead.matrix,
            name=pair.name,
        )
