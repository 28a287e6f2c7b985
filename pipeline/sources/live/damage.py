"""The share of a live camera's frames that arrive damaged, as one line when it is high. Pure; time is passed in."""

from __future__ import annotations

from fusepipe.core.units import S

WINDOW_NS = 10 * S
MIN_FRAMES = 20  # in a window, to judge it
MIN_SHARE = 0.05
REPEAT_NS = 60 * S


class DamageMeter:
    """Counts the frames of one camera in windows of ten seconds.

    ``advice`` ends the line: what to do about it.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._since_ns: int | None = None
        self._damaged = self._frames = 0
        self._quiet_until_ns = 0

    def push(self, now_ns: int, *, damaged: bool) -> str:
        """Takes a frame; returns what to log at the end of a window with much damage, at most once a minute."""
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        self._frames += 1
        self._damaged += damaged
        window_ns = now_ns - self._since_ns
        if window_ns < WINDOW_NS:
            return ""
        frames, share = self._frames, self._damaged / self._frames
        self._since_ns, self._frames, self._damaged = now_ns, 0, 0
        if frames < MIN_FRAMES or share < MIN_SHARE or now_ns < self._quiet_until_ns:
            return ""
        self._quiet_until_ns = now_ns + REPEAT_NS
        return f"{share:.0%} of the frames of the last {window_ns / S:.0f} s are damaged: {self._advice}"


def damage_advice(url: str, transport: str) -> str:
    """The probable cause of damaged frames from a camera, and what to do."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("rtsp", "rtsps"):
        if transport == "udp":
            return "RTP packets are lost on the way; set transport: tcp"
        return "the camera sends damaged video, or drops packets itself; lower its bit rate"
    if scheme in ("udp", "srt"):
        return "packets are lost on the way; check the network, or lower the bit rate"
    return "the camera sends damaged video; check its cable and its encoder"
