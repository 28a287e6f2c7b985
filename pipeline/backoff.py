"""How long to wait before the next attempt of something that failed. Pure; time and chance are passed in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The first wait, doubled after each failure up to ``cap_ns``; each lengthened by up to ``jitter`` of itself.

    ``healthy_ns``: a connection that delivered for so long starts the waits anew.
    """

    first_ns: int
    cap_ns: int
    jitter: float = 0.25
    healthy_ns: int = 10 * S


USUAL = BackoffPolicy(first_ns=S // 4, cap_ns=10 * S)
# Cameras lock an account after a few wrong passwords: a wrong one is not tried more than twice a minute, then rarer.
REFUSED_PASSWORD = BackoffPolicy(first_ns=30 * S, cap_ns=600 * S)


# What an output lacks is often back at once (a server), or away for long (a disk).
SINK = BackoffPolicy(first_ns=S // 2, cap_ns=60 * S, healthy_ns=30 * S)
FULL_DISK = BackoffPolicy(first_ns=10 * S, cap_ns=300 * S)


class Backoff:
    """The waits of one camera, or one sink.

    ``chance`` gives numbers from 0 to 1: with jitter, cameras that one switch took away do not come back at once.
    Failures are counted for each policy: that a camera was off for a while does not make the wait after a
    wrong password longer.
    """

    def __init__(self, policy: BackoffPolicy = USUAL) -> None:
        self._policy = policy
        self._failures: Counter[BackoffPolicy] = Counter()

    def wait_ns(self, chance: float, policy: BackoffPolicy | None = None) -> int:
        """The wait after one more failure; ``policy`` replaces the usual one for this kind of failure."""
        policy = policy or self._policy
        wait_ns = min(policy.cap_ns, policy.first_ns << min(self._failures[policy], 40))
        self._failures[policy] += 1
        return round(wait_ns * (1 + policy.jitter * chance))

    def delivered(self, for_ns: int) -> None:
        """A connection has delivered frames for so long."""
        if for_ns >= self._policy.healthy_ns:
            self._failures.clear()
