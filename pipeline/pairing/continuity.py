"""Keeps one stream's capture times continuous: lone wrong timestamps are dropped, clock resets bridged.

Pure logic. A jump is believed only when the next frame confirms it, so one wrong timestamp cannot take
the rest of a stream with it:

- a frame that jumps and whose successor continues from before the jump is an outlier, and is dropped;
- a jump forward that the successor confirms is a pause of the recording, and stands;
- a jump back that the successor confirms is a clock that was reset: from there on times are shifted so
  that the stream goes on one frame interval after its last frame. Output times never go back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fusepipe.core.frames import Frame, UnreadableFrame
from fusepipe.pipeline.sources.base import SourceItem

JUMP_NS = 10_000_000_000  # a step over this, and over 50 usual steps, is a jump
USUAL_STEPS = 50


@dataclass(frozen=True, slots=True)
class ContinuityResult:
    """What became of an item: those that go on (times corrected), and what was noticed, if anything.

    ``dropped`` are frames whose time was wrong; ``reset_ns`` is how far a clock was found to have jumped back.
    """

    passed: tuple[SourceItem, ...] = ()
    dropped: tuple[Frame, ...] = ()
    reset_ns: int | None = None


class Continuity:
    """One stream's guard; feed it every item in order, and :meth:`end` it.

    ``slack_ns`` is how far back a frame may step without being suspect: streams whose consumer sorts
    (pairing's other stream) tolerate a little disorder, the reference none.
    """

    def __init__(self, slack_ns: int = 0) -> None:
        self._slack_ns = slack_ns
        self._shift_ns = 0
        self._last_ns: int | None = None
        self._step_ns: int | None = None
        self._suspect: Frame | None = None

    def push(self, item: SourceItem) -> ContinuityResult:
        if isinstance(item, UnreadableFrame):
            if item.capture_ns is not None:
                item = replace(item, capture_ns=item.capture_ns + self._shift_ns)
            return ContinuityResult((item,))
        frame = self._shifted(item)
        if self._suspect is None:
            if self._continues(frame):
                return ContinuityResult((self._accept(frame),))
            self._suspect = frame
            return ContinuityResult()
        suspect, self._suspect = self._suspect, None
        last_ns = self._last_ns or 0
        if suspect.capture_ns > last_ns and frame.capture_ns > suspect.capture_ns:
            return ContinuityResult((self._accept(suspect), self._accept(frame)))  # a pause
        if self._continues(frame):
            return ContinuityResult((self._accept(frame),), (suspect,))
        if suspect.capture_ns < frame.capture_ns <= last_ns:
            return self._reset(suspect, frame)
        self._suspect = frame  # neither agrees with anything: wait for the next
        return ContinuityResult(dropped=(suspect,))

    def _reset(self, suspect: Frame, frame: Frame) -> ContinuityResult:
        """Two frames in a row agree on a time before the last: the clock was set back there."""
        last_ns = self._last_ns or 0
        moved_ns = last_ns - suspect.capture_ns + (self._step_ns or frame.capture_ns - suspect.capture_ns)
        self._shift_ns += moved_ns
        both = [replace(f, capture_ns=f.capture_ns + moved_ns) for f in (suspect, frame)]
        return ContinuityResult(tuple(self._accept(f) for f in both), reset_ns=last_ns - suspect.capture_ns)

    def end(self) -> ContinuityResult:
        """What is left of a stream that has ended: a last frame after a pause stands, one before it does not."""
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
            if self._step_ns is None or step_ns < 4 * self._step_ns:  # a pause is no usual step
                self._step_ns = step_ns
        return frame
