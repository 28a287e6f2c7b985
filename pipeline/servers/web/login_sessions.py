"""Sessions of users who have logged in. Pure: time is an argument.

A session has a random id, which only its browser knows: the server keeps the hash. It ends at a fixed time after the
login, however much it is used, or when the user logs out.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from fusepipe.pipeline.servers.web.users import Role

SESSION_S = 12 * 3600.0  # a shift
MAX_SESSIONS = 256  # of one page; the oldest one ends


@dataclass(eq=False, slots=True)
class LoginSession:
    """One login; ``user`` is empty for a visitor with the token."""

    user: str
    role: Role
    expires_s: float
    ended: bool = False
    at_end: set[Callable[[], None]] = field(default_factory=set, repr=False)
    """Called when the session ends, such as to end a video."""

    def end(self) -> None:
        self.ended = True
        calls, self.at_end = self.at_end, set()
        for call in calls:
            call()


class LoginSessions:
    """The sessions of one page."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, LoginSession] = {}  # by the hash of the id, in the order of their ends

    def begin(self, user: str, role: Role, now_s: float) -> str:
        """Begins a session; returns its id."""
        self.expire(now_s)
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.pop(next(iter(self._sessions))).end()
        name = secrets.token_urlsafe(32)
        self._sessions[_hashed(name)] = LoginSession(user, role, now_s + SESSION_S)
        return name

    def find(self, name: str | None, now_s: float) -> LoginSession | None:
        """The session of an id, unless it has ended."""
        self.expire(now_s)
        return None if name is None else self._sessions.get(_hashed(name))

    def end(self, name: str | None) -> LoginSession | None:
        """Ends the session of an id and returns it; ``None`` if there is none."""
        session = None if name is None else self._sessions.pop(_hashed(name), None)
        if session is not None:
            session.end()
        return session

    def expire(self, now_s: float) -> None:
        """Ends the sessions whose time is over."""
        for key in [key for key, session in self._sessions.items() if now_s >= session.expires_s]:
            self._sessions.pop(key).end()


def _hashed(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
