"""Capture times of one live camera on the host's monotonic clock. Pure; time comes with the frames.

The best available clock is used, and reported as its grade:

``kernel``   the driver's monotonic timestamps (V4L2): exact.
``sender``   the camera's wall clock (RTCP sender reports), used only while it agrees with the host's: with both
             synchronised by NTP, the transport delay is eliminated.
``media``    presentation times, mapped to the host's clock by :class:`ClockModel`; what remains is the camera's
             minimum delay, which ``latency`` in the rig file sets.
``arrival``  nothing but arrival times.

Capture times increase strictly and are never later than the arrival, whatever timestamps the camera sends: a better
estimate is approached by slewing, a single wrong timestamp is bridged, a jump or reset of the camera's clock starts a
new model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fusepipe.core.frames import Frame
from fusepipe.core.units import MS
from fusepipe.pipeline.pairing.clock_model import ClockEstimate, ClockModel

Grade = Literal["kernel", "sender", "media", "arrival"]

LEAD_NS = 250 * MS  # a timestamp further ahead of the model than this: the camera's clock jumped
LEAD_YOUNG_NS = 3_000 * MS  # the same in the first seconds, while the model settles
SETTLED_NS = 5_000 * MS
MAX_DELAY_NS = 10_000 * MS  # a longer delay is not the network: the clock jumped back
NTP_DELAYS_NS = (-20 * MS, 500 * MS)  # range of min delays with which a sender's wall clock is plausible
NTP_SKEW_PPM = 60.0  # max skew of a clock synchronised by NTP
MIN_SENDER_FRAMES = 25
SENDER_STEP_NS = 50 * MS  # between a camera's wall clock and its media time: the wall clock was set
SLEW = 0.5  # max share of a frame interval used for a correction


@dataclass(frozen=True, slots=True)
class ClockReport:
    """The state of a camera's clock: grade, estimate, number of resets and of wrong timestamps.

    ``delay_ns``: least time from capture to arrival by the sender's clock, where that is used and settled.
    """

    grade: Grade
    estimate: ClockEstimate
    resets: int
    outliers: int
    delay_ns: int | None = None

    def as_json(self) -> dict[str, float | int | str | None]:
        known = self.estimate.skew_error_ppm != float("inf")
        return {
            "grade": self.grade,
            "skew_ppm": round(self.estimate.skew_ppm, 1) if known else None,
            "skew_error_ppm": round(self.estimate.skew_error_ppm, 1) if known else None,
            "jitter_ms": round(self.estimate.jitter_ns / MS, 2),
            "span_s": round(self.estimate.span_ns / 1e9, 1),
            "resets": self.resets,
            "wrong_times": self.outliers,
            "delay_ms": None if self.delay_ns is None else round(self.delay_ns / MS, 1),
        }


class CaptureClock:
    """Assigns capture times to one camera's frames.

    ``latency_ns`` is the camera's minimum delay from capture to arrival; it may be changed while it runs. With
    ``use_absolute``, a sender's wall clock is used: only if the other camera's time is absolute too, since otherwise
    both include their transport delays, which are similar and cancel.
    """

    def __init__(self, latency_ns: int = 0) -> None:
        self.use_absolute = True
        self.latency_ns = latency_ns
        self._learned_ns: int | None = None  # the min delay measured by the sender's clock
        self._media = ClockModel()
        self._sender = ClockModel()
        self._sender_lead_ns: int | None = None  # of the last wall-clock time over its media time
        self._epoch = 0
        self._grade: Grade = "media"
        self._resets = self._outliers = 0
        self._suspect: tuple[int, int] | None = None  # (media time, arrival) of a frame whose timestamp jumped
        self._last_media_ns: int | None = None
        self._step_ns: int | None = None  # from the previous frame, by the camera's clock
        self._last_arrival_ns = 0
        self._last_ns: int | None = None  # last capture time assigned

    def stamp(self, frame: Frame) -> Frame:
        """The frame with ``capture_ns`` on the host's monotonic clock."""
        self._step_ns = None
        stamp = frame.stamp
        if stamp is not None and stamp.epoch != self._epoch:
            self._epoch = stamp.epoch
            self._restart()
        target_ns = self._estimate_ns(frame)
        capture_ns = self._slewed(target_ns, frame)
        self._last_arrival_ns, self._last_ns = frame.arrival_ns, capture_ns
        return replace(frame, capture_ns=capture_ns)

    @property
    def absolute(self) -> bool:
        """Whether the true capture time is known, from the driver or from a sender with a plausible clock."""
        return self._grade == "kernel" or self._learned_ns is not None or self._sender_is_plausible()

    def report(self) -> ClockReport:
        return ClockReport(self._grade, self._media.estimate(), self._resets, self._outliers, self.delay_ns)

    @property
    def delay_ns(self) -> int | None:
        """The least time from capture to arrival by the sender's clock; ``None`` until that is used and settled."""
        settled = self._grade == "sender" and self._sender.span_ns > SETTLED_NS
        return round(self._sender.line()[0]) if settled else None

    # -- estimate

    def _estimate_ns(self, frame: Frame) -> int:
        kind = "media" if frame.stamp is None else frame.stamp.kind
        if kind == "arrival":
            self._grade = "arrival"
            began = 0 <= frame.arrival_ns - frame.capture_ns <= MAX_DELAY_NS  # to arrive, before it was complete
            return (frame.capture_ns if began else frame.arrival_ns) - self.latency_ns
        media_ns = frame.capture_ns
        if kind == "kernel" and 0 <= frame.arrival_ns - media_ns <= MAX_DELAY_NS:
            self._grade = "kernel"
            self._media.observe(media_ns, frame.arrival_ns)
            return media_ns
        if not self._consistent(media_ns, frame.arrival_ns):
            return frame.arrival_ns - self.latency_ns
        self._step_ns = None if self._last_media_ns is None else media_ns - self._last_media_ns
        self._last_media_ns = media_ns
        self._media.observe(media_ns, frame.arrival_ns)
        sender_ns = None if frame.stamp is None else frame.stamp.sender_ns
        if sender_ns is not None:
            self._notice_setting(sender_ns - media_ns)
            self._sender.observe(sender_ns, frame.arrival_ns)
            if self._sender_is_plausible():
                self._learned_ns = self._media.host_ns(media_ns) - sender_ns
                if self.use_absolute:
                    self._grade = "sender"
                    return sender_ns
        self._grade = "media"
        # until the first sender report of a new connection, the delay measured on the previous one
        learned_ns = self._learned_ns if self.use_absolute else None
        return self._media.host_ns(media_ns) - (self.latency_ns if learned_ns is None else learned_ns)

    def _notice_setting(self, lead_ns: int) -> None:
        """Forgets a wall clock that was set: where it is plausible again it counts, else the delay learned before."""
        last_ns, self._sender_lead_ns = self._sender_lead_ns, lead_ns
        if last_ns is not None and abs(lead_ns - last_ns) > SENDER_STEP_NS:
            self._sender = ClockModel()

    def _sender_is_plausible(self) -> bool:
        if self._sender.frames < MIN_SENDER_FRAMES:
            return False
        offset_ns, skew_ppm, error_ppm = self._sender.line()
        low_ns, high_ns = NTP_DELAYS_NS
        return low_ns <= offset_ns <= high_ns and abs(skew_ppm) <= NTP_SKEW_PPM + error_ppm

    def _consistent(self, media_ns: int, arrival_ns: int) -> bool:
        """Whether a media time continues the sequence; a jump is accepted if the next frame confirms it."""
        if self._last_media_ns is None:
            return True
        if self._follows(self._last_media_ns, media_ns, arrival_ns):
            if self._suspect is not None:
                self._suspect = None
                self._outliers += 1
            return True
        if self._suspect is not None:
            step_ns = media_ns - self._suspect[0]
            if 0 < step_ns <= arrival_ns - self._suspect[1] + LEAD_NS:
                self._restart()
                self._resets += 1
                return True
            self._outliers += 1
        self._suspect = (media_ns, arrival_ns)
        return False

    def _follows(self, last_ns: int, media_ns: int, arrival_ns: int) -> bool:
        delay_ns = arrival_ns - self._media.host_ns(media_ns)
        lead_ns = LEAD_NS if self._media.span_ns > SETTLED_NS else LEAD_YOUNG_NS
        return media_ns > last_ns and -lead_ns <= delay_ns <= MAX_DELAY_NS

    def _restart(self) -> None:
        self._media, self._sender = ClockModel(), ClockModel()
        self._suspect = self._last_media_ns = self._sender_lead_ns = None

    # -- output

    def _slewed(self, target_ns: int, frame: Frame) -> int:
        """Strictly increasing and not after the arrival; corrections backwards use at most ``SLEW`` of each step."""
        capture_ns = min(target_ns, frame.arrival_ns)
        if self._last_ns is None:
            return capture_ns
        step_ns = frame.arrival_ns - self._last_arrival_ns if self._step_ns is None else self._step_ns
        min_ns = self._last_ns + max(1_000, round(SLEW * min(step_ns, 100 * MS)))
        return max(min(min_ns, frame.arrival_ns), capture_ns, self._last_ns + 1_000)
