"""Lets requests in: checks where they come from, who sends them and what their route needs; the login page."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from fusepipe.pipeline.servers.web.access import Access, PageAccess, Refusal, bearer_token, required_role
from fusepipe.pipeline.servers.web.login import Login
from fusepipe.pipeline.servers.web.login_sessions import SESSION_S, LoginSession, LoginSessions
from fusepipe.pipeline.servers.web.page_files import login_page
from fusepipe.pipeline.servers.web.users import Role

WRONG_TOKEN_S = 0.5
FORM_S = 5.0  # max time for the login form to arrive
MAX_FORM_BYTES = 4096  # a name and a password, encoded


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who sent the request that is being handled: ``session`` is ``None`` with a bearer token, and where all may in."""

    role: Role
    session: LoginSession | None


_admitted: ContextVar[Admitted] = ContextVar("admitted")


def admitted() -> Admitted:
    """Of the request that the calling task handles; :class:`Gate` sets it."""
    return _admitted.get()


class Gate:
    """Who may use one page; runs in its event loop, except for :meth:`restrict` and :meth:`close`."""

    def __init__(self, host: str, port: int, label: str) -> None:
        self._host, self._port = host, port
        self._sessions = LoginSessions()
        self._login = Login(label)
        self.restrict(PageAccess(secrets.token_urlsafe(32)))  # nobody enters before a rig has said who may

    # -- any thread

    def restrict(self, settings: PageAccess) -> None:
        """Sets who may use the page."""
        self._settings = settings
        self._access = Access(self._host, self._port, settings)

    def close(self) -> None:
        self._login.close()

    # -- event loop

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/login", self._form),
            web.post("/login", self._log_in),
            web.post("/logout", self._log_out),
        ]

    async def refusal(self, request: web.Request) -> web.StreamResponse | None:
        """The response to a request that is not let in, or that begins a session; ``None`` if it is let in."""
        if foreign := self._access.target_refusal(request.raw_path):
            raise web.HTTPMisdirectedRequest(text=f"{foreign.reason}\n")
        if refused := self._access.refusal(request.headers):
            return _refused(refused)
        if self._settings.token and request.path == "/" and "token" in request.query:
            return await self._enter_with_token(request)
        bearer = bearer_token(request.headers)
        if bearer is not None and self._settings.protected and not self._access.token_valid(bearer):
            await asyncio.sleep(WRONG_TOKEN_S)
            return _refused(Refusal(401, "wrong token"))
        session = None if bearer is not None else self._session(request)
        everything = bearer is not None or not self._settings.protected
        role = Role.OPERATOR if everything else None if session is None else session.role
        resource = request.match_info.route.resource
        required = required_role(request.method, None if resource is None else resource.canonical)
        if required is not None and role is None:
            return self._unknown(request)
        if required is not None and role is not None and not role.includes(required):
            return _refused(Refusal(403, f"needs the role {required}"))
        _admitted.set(Admitted(role or Role.VIEWER, session))
        return None

    def _session(self, request: web.Request) -> LoginSession | None:
        return self._sessions.find(request.cookies.get(self._access.cookie), time.monotonic())

    def _unknown(self, request: web.Request) -> web.StreamResponse:
        if not self._settings.users:
            return _refused(Refusal(401, "token required: open the URL that fusepipe printed, with ?token=..."))
        if request.path == "/" and request.method == "GET":
            return _redirect("/login")
        return _refused(Refusal(401, "log in at /login; programs send the token as Authorization: Bearer"))

    async def _enter_with_token(self, request: web.Request) -> web.StreamResponse:
        """Begins a session, so that the token does not stay in the address bar."""
        if not self._access.token_valid(request.query["token"]):
            await asyncio.sleep(WRONG_TOKEN_S)
            return _refused(Refusal(401, "wrong token: open the URL that fusepipe printed, with ?token=..."))
        return self._begin(request, "", Role.OPERATOR)

    # -- the login page

    async def _form(self, request: web.Request) -> web.StreamResponse:
        if not self._settings.users or self._session(request) is not None:
            return _redirect("/")
        return web.Response(text=login_page(), content_type="text/html")

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        if not self._settings.users:
            return _redirect("/")
        if refused := self._access.form_refusal(request.headers):
            return _refused(refused)
        name, password = await _name_and_password(request)
        result = await self._login.attempt(self._settings.users, name, password, request.remote or "")
        if result.user is not None:
            return self._begin(request, result.user.name, result.user.role)
        wait_s = math.ceil(result.retry_s)
        problem = f"{result.problem}: wait {wait_s} s" if wait_s else result.problem
        response = web.Response(status=429 if wait_s else 401, text=login_page(problem, name), content_type="text/html")
        if wait_s:
            response.headers["Retry-After"] = str(wait_s)
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        if refused := self._access.form_refusal(request.headers):
            return _refused(refused)
        self._sessions.end(request.cookies.get(self._access.cookie))
        response = _redirect("/")
        response.del_cookie(self._access.cookie, path="/")
        return response

    def _begin(self, request: web.Request, user: str, role: Role) -> web.StreamResponse:
        now_s = time.monotonic()
        self._sessions.end(request.cookies.get(self._access.cookie))
        name = self._sessions.begin(user, role, now_s)
        # ends also the videos of a browser that sends nothing more
        asyncio.get_running_loop().call_later(SESSION_S + 1, self._expire)
        response = _redirect("/")
        response.set_cookie(
            self._access.cookie, name, httponly=True, samesite="Strict", path="/", secure=request.secure
        )
        return response

    def _expire(self) -> None:
        self._sessions.expire(time.monotonic())


async def _name_and_password(request: web.Request) -> tuple[str, str]:
    """Of a login form; raises ``web.HTTPException`` for anything else."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="a login has to be application/x-www-form-urlencoded\n")
    try:
        async with asyncio.timeout(FORM_S):
            data = await request.read()
        fields = parse_qs(data.decode("ascii"), max_num_fields=4, errors="strict")
        return fields["name"][0], fields["password"][0]
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the form did not arrive in time\n") from error
    except (KeyError, ValueError):
        raise web.HTTPBadRequest(text="a login has a name and a password\n") from None


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, text=f"{refusal.reason}\n")


def _redirect(target: str) -> web.Response:
    return web.Response(status=303, headers={"Location": target})
