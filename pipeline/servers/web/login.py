"""Checks passwords: in a thread of its own, one at a time, and not faster than :class:`LoginThrottle` allows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fusepipe.core.passwords import PasswordHash, ScryptCost
from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.servers.web.login_throttle import LoginThrottle
from fusepipe.pipeline.servers.web.users import PageUser

log = logging.getLogger(__name__)

MAX_WAITING = 8  # logins; each takes a third of a second and more


@dataclass(frozen=True, slots=True)
class LoginResult:
    """The user, or why there is none, with the seconds to wait before the next attempt if it was not checked."""

    user: PageUser | None = None
    problem: str = ""
    retry_s: float = 0.0


class Login:
    """The logins of one page; runs in its event loop. ``label`` names the page in log lines."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._throttle = LoginThrottle()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"{label.replace(' ', '-')}-login")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._log = LogLimit(log)

    async def attempt(self, users: Collection[PageUser], name: str, password: str, peer: str) -> LoginResult:
        """Checks a name and a password against ``users``, at least one.

        An unknown name takes as long as a wrong password, and has the same answer.
        """
        if self._waiting >= MAX_WAITING:
            self._log.warning("busy", "%s: login refused, %d are being checked", self._label, self._waiting)
            return LoginResult(problem="too many logins at the same time", retry_s=1.0)
        self._waiting += 1
        try:
            async with self._turn:
                if wait_s := self._throttle.wait_s(peer, name, time.monotonic()):
                    return LoginResult(problem="too many failed logins", retry_s=wait_s)
                return await self._checked(users, name, password, peer)
        finally:
            self._waiting -= 1

    async def _checked(self, users: Collection[PageUser], name: str, password: str, peer: str) -> LoginResult:
        user = next((user for user in users if user.name == name), None)
        if user is None:
            hashed = PasswordHash.impossible(max((user.password.cost for user in users), key=_work))
        else:
            hashed = user.password
        right = await asyncio.get_running_loop().run_in_executor(self._executor, hashed.verify, password)
        if user is not None and right:
            self._throttle.succeeded(peer, name)
            log.info("%s: %s logged in from %s", self._label, user.name, peer)
            return LoginResult(user)
        count = self._throttle.failed(peer, name, time.monotonic())
        who = "an unknown user" if user is None else user.name  # what was typed may be a password
        self._log.warning("failed", "%s: login of %s from %s failed, %d in a row", self._label, who, peer, count)
        return LoginResult(problem="unknown user or wrong password")

    def close(self) -> None:
        """Ends the thread; from outside the event loop."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _work(cost: ScryptCost) -> int:
    return cost.memory_bytes * cost.p
