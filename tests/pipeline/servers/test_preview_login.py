"""Users of the preview page: logging in and out, roles, and what attackers try."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.cookies import Morsel
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from helpers.certificates import make_certificate
from helpers.page_users import ANN, PASSWORD, USERS, VIC
from helpers.preview_page import HOST, Page

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.servers.web import login, login_sessions, login_throttle
from fusepipe.pipeline.sinks.live.preview import PreviewStatus, WebPreviewSink

TOKEN = "a-token-for-machines"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with Page("0.0.0.0", users=USERS, token=TOKEN) as made:
        yield made


class Client:
    """A browser without a screen: keeps cookies, follows no redirects, sends its origin with forms."""

    def __init__(self, session: aiohttp.ClientSession, page: Page) -> None:
        self._session, self.url = session, f"http://{HOST}:{page.port}"

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self._session.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            text = (await answer.read()).decode("utf-8", "replace")
            return answer.status, answer.headers.get("Location", "") or text

    async def post(self, path: str, data: Any = None, **headers: str) -> tuple[int, str, Any]:
        sent = {"Origin": self.url} | headers
        url = self.url + path
        async with self._session.post(url, data=data, headers=sent, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", "") or await answer.text(), answer.headers

    async def log_in(self, name: str = "ann", password: str = PASSWORD, **headers: str) -> tuple[int, str, Any]:
        return await self.post("/login", {"name": name, "password": password}, **headers)

    @property
    def cookie(self) -> Morsel[str] | None:
        return next(iter(self._session.cookie_jar), None)


@contextlib.asynccontextmanager
async def client_of(page: Page) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Client(session, page)


def with_client(page: Page, script: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with client_of(page) as client:
            await script(client)

    asyncio.run(asyncio.wait_for(run(), 90))


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of one test do not delay the logins of the next; the tests of the delay set it."""
    monkeypatch.setattr(login_throttle, "FIRST_DELAY_S", 0.0)


def test_nothing_but_the_login_and_health_is_open(page: Page) -> None:
    async def script(client: Client) -> None:
        assert await client.get("/") == (303, "/login")
        for path in ("/api/rigs", "/metrics", "/rigs/roof/snapshot.png", "/rigs/roof/live.mjpg", "/page.js", "/nope"):
            assert (await client.get(path))[0] == 401, path
        assert (await client.post("/rigs/roof/whep", "offer"))[0] == 401
        for path in ("/login", "/login.css", "/style.css", "/healthz"):
            assert (await client.get(path))[0] == 200, path

    with_client(page, script)


def test_a_login_gives_a_cookie_that_is_not_the_password_and_ends_with_the_logout(page: Page) -> None:
    async def script(client: Client) -> None:
        status, location, headers = await client.log_in()
        assert (status, location) == (303, "/")
        assert re.search(r"; HttpOnly; Path=/; SameSite=Strict$", headers["Set-Cookie"]), headers["Set-Cookie"]
        assert client.cookie is not None and len(client.cookie.value) >= 32
        assert (await client.get("/"))[0] == 200 and await client.get("/login") == (303, "/")
        stolen = {"Cookie": f"{client.cookie.key}={client.cookie.value}"}
        assert (await client.post("/logout"))[:2] == (303, "/")
        assert client.cookie is None and (await client.get("/"))[0] == 303
        assert (await client.get("/api/rigs", **stolen))[0] == 401, "ended on the server too"

    with_client(page, script)


def test_each_login_has_a_session_of_its_own_and_ends_the_one_before(page: Page) -> None:
    async def script(client: Client) -> None:
        await client.log_in()
        assert client.cookie is not None
        before = {"Cookie": f"{client.cookie.key}={client.cookie.value}"}
        async with client_of(page) as other:
            assert (await other.get("/api/rigs", **before))[0] == 200
            await client.log_in()
            assert (await client.get("/api/rigs"))[0] == 200 and (await other.get("/api/rigs", **before))[0] == 401

    with_client(page, script)


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", "wrong password"), ("ann", ""), ("nobody", PASSWORD), ("", PASSWORD), ("ANN", PASSWORD)],
)
def test_a_wrong_password_and_an_unknown_user_have_the_same_answer(page: Page, name: str, password: str) -> None:
    async def script(client: Client) -> None:
        status, text, headers = await client.log_in(name, password)
        if not (name and password):
            assert status == 400 and "a login has a name and a password" in text
            return
        assert status == 401 and "unknown user or wrong password" in text
        assert "Set-Cookie" not in headers and PASSWORD not in text
        assert (await client.get("/api/rigs"))[0] == 401

    with_client(page, script)


def test_an_unknown_user_takes_a_verification_too(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = type(ANN.password).verify
    monkeypatch.setattr(
        type(ANN.password), "verify", lambda self, password: verified.append(password) or verify(self, password)
    )

    async def script(client: Client) -> None:
        await client.log_in("nobody", "some password")
        await client.log_in("ann", "other password")

    with_client(page, script)
    assert verified == ["some password", "other password"]


def test_what_was_typed_is_shown_as_text(page: Page) -> None:
    async def script(client: Client) -> None:
        _, text, headers = await client.log_in('"><script>alert(1)</script>', "wrong password")
        assert "<script" not in text and "&lt;script&gt;" in text
        assert "form-action 'self'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "same-origin"

    with_client(page, script)


# -- roles


def test_a_viewer_watches_and_is_refused_what_is_for_operators(page: Page) -> None:
    async def script(client: Client) -> None:
        await client.log_in("vic")
        status, text = await client.get("/metrics")
        assert status == 403 and "needs the role operator" in text
        assert (await client.get("/"))[0] == 200 and (await client.get("/rigs/roof/snapshot.png"))[0] == 200
        assert (await client.post("/rigs/roof/whep", "offer"))[0] == 415, "let in, and not an offer"
        status, text = await client.get("/api/rigs")
        assert '"user": {"name": "vic", "role": "viewer"}' in text
        assert '"pairs"' in text and "calibration" not in text and "openvino" not in text and "a warning" not in text

    with_client(page, script)


def test_an_operator_and_a_machine_with_the_token_may_everything(page: Page) -> None:
    async def script(client: Client) -> None:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/metrics", "/api/rigs"):
            assert (await client.get(path, **bearer))[0] == 200
            assert (await client.get(path, Authorization="Bearer wrong"))[0] == 401
        assert '"user": null' in (await client.get("/api/rigs", **bearer))[1]
        await client.log_in("ann")
        assert (await client.get("/metrics"))[0] == 200
        assert "roof.calibration.yaml" in (await client.get("/api/rigs"))[1]
        assert (await client.get("/metrics", Authorization="Bearer wrong"))[0] == 401, "the session does not help it"

    with_client(page, script)


def test_the_token_in_the_url_begins_a_session_too(page: Page) -> None:
    async def script(client: Client) -> None:
        assert await client.get(f"/?token={TOKEN}") == (303, "/")
        assert client.cookie is not None and TOKEN not in client.cookie.value
        assert (await client.get("/metrics"))[0] == 200
        assert (await client.post("/logout"))[0] == 303 and (await client.get("/metrics"))[0] == 401
        assert (await client.get("/?token=wrong"))[0] == 401

    with_client(page, script)


# -- sessions


def test_an_expired_session_is_over_and_so_is_its_video(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_sessions, "SESSION_S", 1.5)
    monkeypatch.setattr("fusepipe.pipeline.servers.web.gate.SESSION_S", 1.5)

    async def script(client: Client) -> None:
        await client.log_in()
        received = asyncio.create_task(client.get("/rigs/roof/live.mjpg"))
        assert (await client.get("/api/rigs"))[0] == 200
        await asyncio.sleep(0.5)
        assert not received.done()
        await received
        assert (await client.get("/api/rigs"))[0] == 401 and await client.get("/") == (303, "/login")

    with_client(page, script)


def test_logging_out_ends_a_video_of_the_session(page: Page) -> None:
    async def script(client: Client) -> None:
        await client.log_in()
        received = asyncio.create_task(client.get("/rigs/roof/live.mjpg"))
        await asyncio.sleep(0.5)
        assert not received.done()
        await client.post("/logout")
        await received

    with_client(page, script)


# -- forms of other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://{HOST}:9"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_neither_logs_in_nor_out(page: Page, headers: dict[str, str]) -> None:
    async def script(client: Client) -> None:
        assert (await client.log_in(**headers))[0] == 403 and client.cookie is None
        await client.log_in()
        assert (await client.post("/logout", **headers))[0] == 403
        assert (await client.get("/api/rigs"))[0] == 200

    with_client(page, script)


def test_a_form_without_an_origin_is_refused(page: Page) -> None:
    async def script() -> int:
        async with aiohttp.ClientSession() as session:
            form = {"name": "ann", "password": PASSWORD}
            async with session.post(f"http://{HOST}:{page.port}/login", data=form, allow_redirects=False) as answer:
                return answer.status

    assert asyncio.run(script()) == 403


def test_no_other_page_is_opened_after_the_login(page: Page) -> None:
    async def script(client: Client) -> None:
        status, location, _ = await client.post(
            "/login?next=https://evil.example", {"name": "ann", "password": PASSWORD, "next": "//evil.example"}
        )
        assert (status, location) == (303, "/")

    with_client(page, script)


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b'{"name": "ann"}', "application/json", 415),
        (b"name=ann&password=" + b"x" * 5000, "application/x-www-form-urlencoded", 413),
        (b"name=ann", "application/x-www-form-urlencoded", 400),
        (b"name=%ff&password=%fe", "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=b"] * 50), "application/x-www-form-urlencoded", 400),
    ],
)
def test_other_forms_are_refused(page: Page, data: bytes, content_type: str, status: int) -> None:
    async def script(client: Client) -> None:
        assert (await client.post("/login", data, **{"Content-Type": content_type}))[0] == status

    with_client(page, script)


# -- the pace


def test_failed_logins_have_to_wait_and_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(login_throttle, "FIRST_DELAY_S", 1.0)
    caplog.set_level(logging.INFO, login.__name__)

    async def script(client: Client) -> None:
        assert (await client.log_in("ann", "wrong password"))[0] == 401
        status, text, headers = await client.log_in("ann", PASSWORD)
        assert status == 429 and "too many failed logins: wait 1 s" in text and headers["Retry-After"] == "1"
        assert (await client.log_in("vic"))[0] == 303, "others need not wait"
        end_s = time.monotonic() + 30
        while (await client.log_in("ann", PASSWORD))[0] != 303:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.2)

    with Page(users=USERS) as made:
        with_client(made, script)
    lines = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert lines == [f"preview port {made.port}: login of ann from 127.0.0.1 failed, 1 in a row"]
    assert "wrong password" not in caplog.text


def test_a_name_that_is_no_user_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def script(client: Client) -> None:
        await client.log_in("hunterseven", "wrong password")

    with Page(users=USERS) as made:
        with_client(made, script)
    assert "login of an unknown user from 127.0.0.1 failed" in caplog.text and "hunterseven" not in caplog.text


def test_parallel_guesses_are_checked_one_by_one_and_not_without_limit(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood gets at most one verification before it has to wait, and the page answers meanwhile."""
    monkeypatch.setattr(login_throttle, "FIRST_DELAY_S", 30.0)

    async def script(client: Client) -> None:
        guesses = [client.log_in("mallory", f"guess number {i}") for i in range(20)]
        answers = await asyncio.gather(client.get("/healthz"), *guesses)
        statuses = [answer[0] for answer in answers[1:]]
        assert answers[0][0] == 200 and sorted(set(statuses)) == [401, 429] and statuses.count(401) == 1

    with_client(page, script)


# -- encryption


def test_the_session_of_an_encrypted_page_is_not_sent_without_encryption(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)

    async def script(page: Page) -> None:
        url = f"https://{HOST}:{page.port}"
        context = ssl.create_default_context(cafile=files.certificate)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            form = {"name": "ann", "password": PASSWORD}
            async with session.post(f"{url}/login", data=form, headers={"Origin": url}) as answer:
                assert answer.status == 200 and answer.url.path == "/"
                assert "; Secure" in answer.history[0].headers["Set-Cookie"]
            async with session.get(f"{url}/metrics") as answer:
                assert answer.status == 200

    with Page(users=USERS, tls=files) as made:
        asyncio.run(asyncio.wait_for(script(made), 60))


# -- several rigs


def test_rigs_on_one_page_have_the_same_users(page: Page) -> None:
    with pytest.raises(SinkError, match="different users"):
        WebPreviewSink("0.0.0.0", page.port, "mast", dict, token=TOKEN, users=(ANN,)).start()
    with pytest.raises(SinkError, match="different users"):
        PreviewStatus("0.0.0.0", page.port, "mast", lambda: None, token=TOKEN)  # type: ignore[arg-type,return-value]
    with Page("0.0.0.0", "yard", port=page.port, token=TOKEN, users=(ANN, VIC)) as other:
        assert other.sink.announcement == f"preview on http://0.0.0.0:{page.port}/login, for 2 users of the rig file"


def test_a_page_with_users_needs_no_token_and_has_none_then() -> None:
    async def script(client: Client) -> None:
        assert (await client.get("/metrics", Authorization="Bearer "))[0] == 401
        assert (await client.log_in())[0] == 303 and (await client.get("/metrics"))[0] == 200

    with Page("0.0.0.0", users=USERS) as made:
        assert "token" not in made.sink.announcement
        with_client(made, script)
