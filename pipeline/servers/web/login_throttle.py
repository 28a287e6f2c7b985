"""How fast passwords may be tried: after each failed login the next one has to wait twice as long. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from fusepipe.pipeline.servers.admission import peer_group

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
FORGET_S = 900.0  # after the last failed login
MAX_ENTRIES = 4096
MAX_NAME = 64  # characters; longer ones are of no user


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last_s: float

    @property
    def until_s(self) -> float:
        return self.last_s + min(FIRST_DELAY_S * (1 << min(self.count - 1, 20)), MAX_DELAY_S)


class LoginThrottle:
    """Failed logins by client address and user, so that nobody can lock a user out from another address."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()  # in the order of the last failure

    def wait_s(self, peer: str, user: str, now_s: float) -> float:
        """How long this user has to wait at this address; 0 if it may try now."""
        found = self._failures.get(_key(peer, user))
        return 0.0 if found is None else max(0.0, found.until_s - now_s)

    def failed(self, peer: str, user: str, now_s: float) -> int:
        """Notes a failed login; returns how many there were in a row."""
        key = _key(peer, user)
        found = self._failures.pop(key, None)
        count = 1 if found is None or now_s - found.last_s > FORGET_S else found.count + 1
        while len(self._failures) >= MAX_ENTRIES:
            self._failures.popitem(last=False)
        self._failures[key] = _Failures(count, now_s)
        return count

    def succeeded(self, peer: str, user: str) -> None:
        self._failures.pop(_key(peer, user), None)


def _key(peer: str, user: str) -> tuple[str, str]:
    return peer_group(peer), user[:MAX_NAME]
