"""WHEP (draft-ietf-wish-whep): a viewer POSTs an offer, gets an answer and a session URL, which it DELETEs to leave.

A session ends when its viewer deletes it, closes the connection, does not connect in time, or is silent for half a
minute (ICE consent, RFC 7675), and when the rig or the viewer's login ends.
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

from fusepipe.pipeline.servers.log_limit import LogLimit
from fusepipe.pipeline.servers.web.gate import admitted
from fusepipe.pipeline.servers.web.ice import link_headers
from fusepipe.pipeline.servers.web.login_sessions import LoginSession
from fusepipe.pipeline.servers.web.rig_view import RigView
from fusepipe.pipeline.servers.web.video_feed import VideoFeed

if TYPE_CHECKING:
    from fusepipe.pipeline.servers.web.peer import Peer

log = logging.getLogger(__name__)

INSTALL = "pip install 'fusepipe[webrtc]'"
MAX_OFFER_BYTES = 32_768  # offers of browsers have about 4,000
OFFER_S = 5.0  # max time for an offer to arrive
ANSWER_S = 5.0  # more than gathering candidates may take
RELAY_LOG_S = 60.0
CONNECT_S = 10.0
CLOSE_S = 5.0


@dataclass
class _WhepSession:
    rig: RigView
    feed: VideoFeed
    peer: Peer
    login: LoginSession | None
    task: asyncio.Task[None] | None = None


def _peer_module() -> ModuleType | None:
    try:
        return importlib.import_module("fusepipe.pipeline.servers.web.peer")
    except ImportError as error:
        if error.name != "aiortc":  # installed, but broken
            log.warning("WebRTC is not available: %s", error)
        return None


def _with_links(response: web.Response, rig: RigView) -> web.Response:
    for value in link_headers(rig.ice_servers):
        response.headers.add("Link", value)
    return response


class Whep:
    """The WHEP sessions of one server; runs in its event loop."""

    def __init__(self, find: Callable[[web.Request], RigView], executor: Executor) -> None:
        self._find = find
        self._executor = executor
        self._loading: asyncio.Future[ModuleType | None] | None = None
        self._feeds: dict[str, VideoFeed] = {}
        self._sessions: dict[str, _WhepSession] = {}
        self._log = LogLimit(log, interval_s=RELAY_LOG_S)

    @property
    def needs(self) -> str | None:
        """What has to be installed, empty if nothing; ``None`` until it is known."""
        loading = self._load()
        if not loading.done():
            return None
        return INSTALL if loading.result() is None else ""

    def _load(self) -> asyncio.Future[ModuleType | None]:
        """Starts importing aiortc in the background: it takes seconds on a small machine."""
        if self._loading is None:
            loop = asyncio.get_running_loop()
            self._loading = loop.run_in_executor(self._executor, _peer_module)
        return self._loading

    # -- requests

    async def options(self, request: web.Request) -> web.StreamResponse:
        """OPTIONS: 204 with the STUN and TURN servers that the viewer is to use, as Link headers."""
        rig = self._find(request)
        response = web.Response(status=204, headers={"Allow": "OPTIONS, POST", "Accept-Post": "application/sdp"})
        return _with_links(response, rig)

    async def offer(self, request: web.Request) -> web.StreamResponse:
        """POST: 201 with the answer and the session's URL."""
        rig = self._find(request)
        if request.content_type != "application/sdp":
            raise web.HTTPUnsupportedMediaType(text="an offer has to be application/sdp\n")
        text = await self._body(request)
        if self.needs is None:
            raise web.HTTPServiceUnavailable(text="WebRTC is still loading\n", headers={"Retry-After": "2"})
        if self.needs:
            raise web.HTTPNotImplemented(text=f"WebRTC is not installed: {self.needs}\n")
        if rig.clients >= rig.max_clients:
            raise web.HTTPServiceUnavailable(text="viewer limit reached\n", headers={"Retry-After": "5"})
        rig.enter(video=True)
        peer, feed = None, self._feed(rig)
        try:
            peer = await self._peer(feed, request)
            async with asyncio.timeout(ANSWER_S):
                answer = await peer.answer(text)
            if not peer.addressed:
                raise web.HTTPServiceUnavailable(text="no UDP port available\n")
            if peer.relay_missing:
                self._log.warning("relay", "%s: WebRTC: the TURN server gives no address; check ice_servers", rig.name)
        except BaseException as error:
            rig.leave(video=True)
            if peer is not None:
                await self._close(peer)
            if isinstance(error, TimeoutError):
                raise web.HTTPServiceUnavailable(text="creating the answer timed out\n") from error
            if isinstance(error, ValueError):
                raise web.HTTPBadRequest(text=f"{error}\n") from error
            raise
        name = self._keep(_WhepSession(rig, feed, peer, admitted().session))
        headers = {"Location": f"{request.rel_url.raw_path}/{name}"}
        response = web.Response(status=201, body=answer.encode(), content_type="application/sdp", headers=headers)
        return _with_links(response, rig)

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """DELETE: ends the session."""
        rig = self._find(request)
        session = self._sessions.get(request.match_info["session"])
        if session is None or session.rig is not rig:
            raise web.HTTPNotFound(text="unknown session\n")
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
            raise web.HTTPRequestTimeout(text="the offer did not arrive in time\n") from error
        except UnicodeDecodeError as error:
            raise web.HTTPBadRequest(text="an offer has to be UTF-8\n") from error

    def _feed(self, rig: RigView) -> VideoFeed:
        feed = self._feeds.get(rig.name)
        if feed is None or feed.rig is not rig:  # a rig of this name may have been restarted
            feed = self._feeds[rig.name] = VideoFeed(rig, self._executor)
        return feed

    async def _peer(self, feed: VideoFeed, request: web.Request) -> Peer:
        module = await self._load()
        assert module is not None and request.transport is not None
        made: Peer = module.Peer(feed, request.transport.get_extra_info("sockname")[0], feed.rig.ice_servers)
        return made

    def _keep(self, session: _WhepSession) -> str:
        name = secrets.token_urlsafe(16)
        self._sessions[name] = session
        session.task = asyncio.create_task(self._live(name, session))
        return name

    async def _live(self, name: str, session: _WhepSession) -> None:
        """Waits for the end of a session and releases it."""
        viewer, login = session.peer.viewer, session.login
        session.feed.join(viewer)
        if login is not None:
            login.at_end.add(viewer.ended.set)
            if login.ended:  # while the answer was being made
                viewer.ended.set()
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
            if login is not None:
                login.at_end.discard(viewer.ended.set)
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
            log.warning("closing a WebRTC connection timed out after %g s", CLOSE_S)
