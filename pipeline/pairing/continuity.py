"""Keeps the capture times of one stream continuous: single wrong timestamps are dropped, clock resets bridged. Pure.

A jump is accepted only if the next frame confirms it, so that one wrong timestamp cannot spoil the rest of a stream:

- a frame that jumps, followed by one that continues from before the jump, is an outlier and is dropped;
- a confirmed jump forward is a gap in the recording and is kept;
- a confirmed jump back is a clock reset: from there on times are shifted so that the stream continues one frame
  interval after its last frame. Output times never decrease.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from fusepipe.core.frames import Frame, UnreadableFrame
from fusepipe.pipeline.sources.base import CapturedItem

JUMP_NS = 10_000_000_000  # a step longer than this, and than 50 usual steps, is a jump
USUAL_STEPS = 50


class ContinuityResult(NamedTuple):
    """Items that passed, with corrected times; ``dropped`` frames with a wrong timestamp; a clock reset, if any.

    ``reset_ns`` is how far the clock jumped back.
    """

    passed: tuple[CapturedItem, ...] = ()
    dropped: tuple[Frame, ...] = ()
    reset_ns: int | None = None


class Continuity:
    """The filter of one stream; takes every item in order, then :meth:`end`.

    ``slack_ns`` is how far back a frame may step: a consumer that sorts tolerates some disorder.
    """

    def __init__(self, slack_ns: int = 0) -> None:
        self._slack_ns = slack_ns
        self._shift_ns = 0
        self._last_ns: int | None = None
        self._step_ns: int | None = None
        self._suspect: Frame | None = None

    def push(self, item: CapturedItem) -> ContinuityResult:
        """Takes the next item of the stream."""
        if isinstance(item, UnreadableFrame):
            if item.capture_ns is not None:
                item = replace(item, capture_ns=item.capture_ns + self._shift_ns)
            return ContinuityResult((item,))
        frame = self._shifted(item)
        if self._suspect is not None:
            suspect, self._suspect = self._suspect, None
            return self._judge(suspect, frame)
        if self._continues(frame):
            return ContinuityResult((self._accept(frame),))
        self._suspect = frame
        return ContinuityResult()

    def _judge(self, suspect: Frame, frame: Frame) -> ContinuityResult:
        """Decides about a frame that jumped, by its successor."""
        last_ns = self._last_ns or 0
        if suspect.capture_ns > last_ns and frame.capture_ns > suspect.capture_ns:
            return ContinuityResult((self._accept(suspect), self._accept(frame)))  # a gap
        if self._continues(frame):
            return ContinuityResult((self._accept(frame),), (suspect,))
        if suspect.capture_ns < frame.capture_ns <= last_ns:
            return self._reset(suspect, frame)
        self._suspect = frame  # neither fits: wait for the next frame
        return ContinuityResult(dropped=(suspect,))

    def _reset(self, suspect: Frame, frame: Frame) -> ContinuityResult:
        """Two consecutive frames agree on an earlier time: the clock was reset."""
        last_ns = self._last_ns or 0
        moved_ns = last_ns - suspect.capture_ns + (self._step_ns or frame.capture_ns - suspect.capture_ns)
        self._shift_ns += moved_ns
        both = [replace(f, capture_ns=f.capture_ns + moved_ns) for f in (suspect, frame)]
        return ContinuityResult(tuple(self._accept(f) for f in both), reset_ns=last_ns - suspect.capture_ns)

    def end(self) -> ContinuityResult:
        """Ends the stream: a last frame after a gap is kept, one that jumped back is dropped."""
        suspect, self._suspect = self._suspect, None
        if suspect is None:
            return ContinuityResult()
        if self._step_ns is None or suspect.capture_ns <= (self._last_ns or 0):
            return ContinuityResult(dropped=(suspect,))
        return ContinuityResult((self._accept(suspect),))

    def _shifted(self, frame: Frame) -> Frame:
        return frame if not self._shift_ns else replace(frame, capture_ns=frame.capture_ns + self._shift_ns)

    def _continues(self, frame: Frame) -> bool:
        if self._last_ns is None:
            return True
        limit_ns = max(JUMP_NS, USUAL_STEPS * (self._step_ns or 0))
        return -self._slack_ns < frame.capture_ns - self._last_ns <= limit_ns

    def _accept(self, frame: Frame) -> Frame:
        last_ns, self._last_ns = self._last_ns, max(frame.capture_ns, self._last_ns or frame.capture_ns)
        if last_ns is not None and frame.capture_ns > last_ns:
            step_ns = frame.capture_ns - last_ns
            if self._step_ns is None or step_ns < 4 * self._step_ns:  # a gap is not a usual step
                self._step_ns = step_ns
        return frame
