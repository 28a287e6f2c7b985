"""The routes by which an operator moves the infrared image of a rig on the preview page, and saves that.

GET answers with the state; POST of JSON (``right``, ``down``, ``turn_deg``, ``stretch``) moves the image; POST to
``.../save`` writes the calibration file. What a browser sends has to come from the page itself; programs send a token.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from aiohttp import web

from fusepipe.core.errors import FusepipeError
from fusepipe.pipeline.servers.web.access import Access, bearer_token

KEYS = ("right", "down", "turn_deg", "stretch")


class AlignmentControl(Protocol):
    """What moves the infrared image of a rig; called in a thread of its own. All raise :class:`FusepipeError`."""

    def state(self) -> dict[str, Any]: ...

    def move_by(self, values: dict[str, float]) -> None: ...

    def save(self) -> object: ...


Find = Callable[[web.Request], AlignmentControl | None]


class AlignmentRoutes:
    """Runs in the event loop of the server; ``find`` gives the control of the rig of a request."""

    def __init__(self, find: Find, executor: Executor) -> None:
        self._find, self._executor = find, executor

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/rigs/{rig}/alignment", self._state),
            web.post("/rigs/{rig}/alignment", self._move),
            web.post("/rigs/{rig}/alignment/save", self._save),
        ]

    async def _state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._run(self._control(request).state))

    async def _move(self, request: web.Request) -> web.StreamResponse:
        control = self._control(request)
        _check_sender(request)
        values = await _values(request)
        await self._run(lambda: control.move_by(values))
        return web.json_response(await self._run(control.state))

    async def _save(self, request: web.Request) -> web.StreamResponse:
        control = self._control(request)
        _check_sender(request)
        backup = await self._run(control.save)
        return web.json_response({**await self._run(control.state), "backup": str(backup)})

    def _control(self, request: web.Request) -> AlignmentControl:
        control = self._find(request)
        if control is None:
            raise web.HTTPNotFound(text="this rig cannot be aligned by hand\n")
        return control

    async def _run(self, call: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        except FusepipeError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error


def _check_sender(request: web.Request) -> None:
    """Refuses what a page of another site makes a browser send; a page cannot set the header of a token."""
    if bearer_token(request.headers) is None and (refusal := Access.form_refusal(request.headers)):
        raise web.HTTPForbidden(text=f"{refusal.reason}\n")


async def _values(request: web.Request) -> dict[str, float]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="an alignment has to be application/json\n")
    try:
        values = json.loads(await request.text())
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="not JSON\n") from None
    if not isinstance(values, dict) or set(values) - set(KEYS):
        raise web.HTTPBadRequest(text=f"use an object of {', '.join(KEYS)}\n")
    if not all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values.values()):
        raise web.HTTPBadRequest(text="an alignment consists of numbers\n")
    return {key: float(value) for key, value in values.items()}
