"""WHEP (draft-ietf-wish-whep): a viewer POSTs an offer, gets an answer and an address, and DELETEs that to leave.

A session ends when its viewer says so, closes its connection, does not connect in time, or is silent for half a
minute (the consent of ICE, RFC 7675); and when the rig ends.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from aiohttp import web

from fusepipe.pipeline.servers.web.rig_view import RigView
from fusepipe.pipeline.servers.web.video_feed import VideoFeed

if TYPE_CHECKING:
    from fusepipe.pipeline.servers.web.peer import Peer

log = logging.getLogger(__name__)

INSTALL = "pip install 'fusepipe[webrtc]'"
MAX_OFFER_BYTES = 32_768  # browsers' offers have about 4,000
OFFER_S = 5.0  # within which an offer has to arrive
ANSWER_S = 5.0
CONNECT_S = 10.0
CLOSE_S = 5.0


@dataclass
class _WhepSession:
    rig: RigView
    feed: VideoFeed
    peer: Peer
    task: asyncio.Task[None] | None = None


def _peer_module() -> ModuleType | None:
    try:
        return importlib.import_module("fusepipe.pipeline.servers.web.peer")
    except ImportError as error:
        if error.name != "aiortc":  # it is there, and broken
            log.warning("WebRTC cannot be used: %s", error)
        return None


class Whep:
    """The sessions of one server; all of it runs in the server's loop."""

    def __init__(self, find: Callable[[web.Request], RigView], executor: Executor) -> None:
        self._find = find
        self._executor = executor
        self._loading: asyncio.Future[ModuleType | None] | None = None
        self._feeds: dict[str, VideoFeed] = {}
        self._sessions: dict[str, _WhepSession] = {}

    @property
    def needs(self) -> str | None:
        """What to install, empty where nothing is missing; ``None`` while that is not known yet."""
        loading = self._load()
        if not loading.done():
            return None
        return INSTALL if loading.result() is None else ""

    def _load(self) -> asyncio.Future[ModuleType | None]:
        """Loads aiortc when the first one asks: on a small machine it takes seconds, which nobody waits for here."""
        if self._loading is None:
            loop = asyncio.get_running_loop()
            self._loading = loop.run_in_executor(self._executor, _peer_module)
        return self._loading

    # -- requests

    async def offer(self, request: web.Request) -> web.StreamResponse:
        """POST: 201 with the answer and the session's address."""
        rig = self._find(request)
        if request.content_type != "application/sdp":
            raise web.HTTPUnsupportedMediaType(text="an offer is application/sdp\n")
        text = await self._body(request)
        if self.needs is None:
            raise web.HTTPServiceUnavailable(text="WebRTC is being loaded\n", headers={"Retry-After": "2"})
        if self.needs:
            raise web.HTTPNotImplemented(text=f"WebRTC needs: {self.needs}\n")
        if rig.clients >= rig.max_clients:
            raise web.HTTPServiceUnavailable(text="as many watch as may\n", headers={"Retry-After": "5"})
        rig.enter(video=True)
        peer, feed = None, self._feed(rig)
        try:
            peer = await self._peer(feed, request)
            async with asyncio.timeout(ANSWER_S):
                answer = await peer.answer(text)
            if not peer.addressed:
                raise web.HTTPServiceUnavailable(text="no UDP port could be opened\n")
        except BaseException as error:
            rig.leave(video=True)
            if peer is not None:
                await self._close(peer)
            if isinstance(error, TimeoutError):
                raise web.HTTPServiceUnavailable(text="the answer took too long\n") from error
            if isinstance(error, ValueError):
                raise web.HTTPBadRequest(text=f"{error}\n") from error
            raise
        name = self._keep(_WhepSession(rig, feed, peer))
        headers = {"Location": f"{request.rel_url.raw_path}/{name}"}
        return web.Response(status=201, body=answer.encode(), content_type="application/sdp", headers=headers)

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """DELETE: ends the session."""
        rig = self._find(request)
        session = self._sessions.get(request.match_info["session"])
        if session is None or session.rig is not rig:
            raise web.HTTPNotFound(text="there is no such session\n")
        await self._end([session])
        return web.Response(text="ended\n")

    async def close(self) -> None:
        """Ends all sessions."""
        await self._end(list(self._sessions.values()))

    # -- sessions

    @staticmethod
    async def _body(request: web.Request) -> str:
        if (request.content_length or 0) > MAX_OFFER_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_OFFER_BYTES, request.content_length or 0)
        try:
            async with asyncio.timeout(OFFER_S):
                data = await request.content.read(MAX_OFFER_BYTES + 1)
                while not request.content.at_eof() and len(data) <= MAX_OFFER_BYTES:
                    data += await request.content.read(MAX_OFFER_BYTES + 1 - len(data))
            if len(data) > MAX_OFFER_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_OFFER_BYTES, len(data))
            return data.decode("utf-8")
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text="the offer did not arrive\n") from error
        except UnicodeDecodeError as error:
            raise web.HTTPBadRequest(text="an offer is UTF-8\n") from error

    def _feed(self, rig: RigView) -> VideoFeed:
        feed = self._feeds.get(rig.name)
        if feed is None or feed.rig is not rig:  # a rig of this name may have come back
            feed = self._feeds[rig.name] = VideoFeed(rig, self._executor)
        return feed

    async def _peer(self, feed: VideoFeed, request: web.Request) -> Peer:
        module = await self._load()
        assert module is not None and request.transport is not None
        made: Peer = module.Peer(feed, request.transport.get_extra_info("sockname")[0])
        return made

    def _keep(self, session: _WhepSession) -> str:
        name = secrets.token_urlsafe(16)
        self._sessions[name] = session
        session.task = asyncio.create_task(self._live(name, session))
        return name

    async def _live(self, name: str, session: _WhepSession) -> None:
        """Waits for the end of a session and clears up after it."""
        viewer = session.peer.viewer
        session.feed.join(viewer)
        try:
            ended = asyncio.create_task(viewer.ended.wait())
            connected = asyncio.create_task(viewer.connected.wait())
            try:
                done, _ = await asyncio.wait((ended, connected), timeout=CONNECT_S, return_when="FIRST_COMPLETED")
                if done:
                    await ended
            finally:
                ended.cancel()
                connected.cancel()
        finally:
            session.feed.leave(viewer)
            self._sessions.pop(name, None)
            session.rig.leave(video=True)
            await self._close(session.peer)

    async def _end(self, sessions: list[_WhepSession]) -> None:
        tasks = [session.task for session in sessions if session.task is not None]
        for session in sessions:
            session.peer.viewer.ended.set()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    @staticmethod
    async def _close(peer: Peer) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await peer.close()
        except TimeoutError:
            log.warning("a WebRTC connection did not close within %g s", CLOSE_S)
