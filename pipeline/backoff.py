"""How long to wait before retrying what failed. Pure; time and randomness are passed in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fusepipe.core.units import S


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Exponential back-off: ``first_ns``, doubled after each failure up to ``cap_ns``.

    Each wait is lengthened by a random part of itself, at most ``jitter``. Something that worked for ``healthy_ns``
    starts again with the first wait. With ``brief_ns``, so does anything that worked at all, except that beyond
    ``MAX_BRIEF`` times in a row, working for less than ``brief_ns`` counts as a failure.
    """

    first_ns: int
    cap_ns: int
    jitter: float = 0.25
    healthy_ns: int = 10 * S
    brief_ns: int | None = None


MAX_BRIEF = 3
# A camera that loses its connection again soon after it returned must not wait as long as a dead one.
CAMERA = BackoffPolicy(first_ns=S // 4, cap_ns=10 * S, brief_ns=S)
# Cameras lock an account after a few failed logins: at most two attempts a minute, then fewer.
CAMERA_LOGIN = BackoffPolicy(first_ns=30 * S, cap_ns=600 * S)
# Images that the settings or the calibration do not allow: only a person changes that, and then waits for the image.
CAMERA_MISFIT = BackoffPolicy(first_ns=S, cap_ns=60 * S)
RIG_START = BackoffPolicy(first_ns=S, cap_ns=60 * S)
SINK = BackoffPolicy(first_ns=S // 2, cap_ns=60 * S, healthy_ns=30 * S)
FULL_DISK = BackoffPolicy(first_ns=10 * S, cap_ns=300 * S)
PUSH = BackoffPolicy(first_ns=S // 2, cap_ns=30 * S, healthy_ns=30 * S)
PUSH_LOGIN = BackoffPolicy(first_ns=60 * S, cap_ns=60 * S)


class Backoff:
    """The waits of one camera, sink or push target.

    Failures are counted for each policy: a connection that was down for a while does not lengthen the wait after a
    failed login.
    """

    def __init__(self, policy: BackoffPolicy) -> None:
        self._policy = policy
        self._failures: Counter[BackoffPolicy] = Counter()
        self._brief = 0  # times in a row that it worked for less than brief_ns

    def wait_ns(self, chance: float, policy: BackoffPolicy | None = None) -> int:
        """The wait after one more failure; ``policy`` replaces the default one for this kind of failure.

        ``chance`` is a random number from 0 to 1: with jitter, cameras behind one failed switch do not all reconnect
        in the same moment.
        """
        policy = policy or self._policy
        wait_ns = min(policy.cap_ns, policy.first_ns << min(self._failures[policy], 40))
        self._failures[policy] += 1
        return round(wait_ns * (1 + policy.jitter * chance))

    def delivered(self, duration_ns: int) -> None:
        """Resets the failures after it worked for ``duration_ns``, as the policy says."""
        policy = self._policy
        if duration_ns >= policy.healthy_ns:
            self._failures.clear()
            self._brief = 0
        elif policy.brief_ns is not None:
            self._brief = self._brief + 1 if duration_ns < policy.brief_ns else 0
            self._failures[policy] = max(0, self._brief - MAX_BRIEF)
