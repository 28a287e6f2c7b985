"""Logging in and out of the preview page in a real browser, which enforces its policy and its cookies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import cv2
import pytest
from helpers.chromium import Tab, browse
from helpers.page_users import PASSWORD, USERS
from helpers.preview_page import HOST, Page

ALERT = "(document.querySelector('[role=alert]') || {}).textContent"


async def log_in(tab: Tab, name: str, password: str) -> None:
    for field, value in (("name", name), ("password", password)):
        await tab.value(f"document.querySelector('[name={field}]').value = {value!r}")
    await tab.value("document.querySelector('button').click()")


async def at(tab: Tab, path: str) -> None:
    """Waits until a page is shown, loaded."""
    await tab.until(f"location.pathname === {path!r} && document.readyState === 'complete'")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_an_operator_logs_in_sees_everything_and_logs_out(tmp_path: Path, width: int) -> None:
    with Page(users=USERS) as page:

        async def script(tab: Tab) -> None:
            await tab.size(width, 900)
            await tab.open(f"http://{HOST}:{page.port}/")
            await at(tab, "/login")
            assert await tab.value("document.documentElement.scrollWidth") <= width
            shown = cv2.imread(str(await tab.screenshot(tmp_path / "login.png")))
            assert tuple(shown[-1, -1]) == (243, 246, 246), "styled: the light theme"
            await log_in(tab, "ann", "wrong password")
            await tab.until(f"{ALERT} === 'unknown user or wrong password'")
            assert await tab.value("document.querySelector('[name=name]').value") == "ann"
            await asyncio.sleep(1.1)
            await log_in(tab, "ann", PASSWORD)
            await at(tab, "/")
            await tab.until("document.getElementById('user').textContent === 'ann'")
            assert await tab.value("document.cookie") == "", "scripts do not see the session"
            assert await tab.value("document.documentElement.scrollWidth") <= width
            await tab.until("document.getElementById('stages').textContent.includes('fuse')")
            await tab.value("document.querySelector('#logout button').click()")
            await at(tab, "/login")
            await tab.open(f"http://{HOST}:{page.port}/")
            await at(tab, "/login")
            done.append("logged out")

        done: list[str] = []
        browse(tmp_path / "profile", script)
    assert done == ["logged out"]


@pytest.mark.slow
def test_a_viewer_sees_the_video_and_no_tables_and_is_sent_to_the_login_when_the_session_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusepipe.pipeline.servers.web.login_sessions.SESSION_S", 15.0)
    monkeypatch.setattr("fusepipe.pipeline.servers.web.gate.SESSION_S", 15.0)
    with Page(users=USERS) as page:

        async def script(tab: Tab) -> None:
            await tab.open(f"http://{HOST}:{page.port}/")
            await at(tab, "/login")
            await log_in(tab, "vic", PASSWORD)
            await at(tab, "/")
            await tab.until("document.getElementById('user').textContent === 'vic'")
            await tab.value("document.querySelector('[data-view=side-by-side]').click()")
            await tab.until("document.getElementById('live').naturalWidth === 128")
            tables = "Array.from(document.querySelectorAll('details'), (table) => table.hidden)"
            assert await tab.value(tables) == [True, True, True]
            await at(tab, "/login")
            done.append("expired")

        done: list[str] = []
        browse(tmp_path / "profile", script)
    assert done == ["expired"]


@pytest.mark.slow
def test_a_form_on_another_site_does_not_log_the_browser_in(tmp_path: Path) -> None:
    with Page(users=USERS) as page:
        fields = f'<input name="name" value="ann"><input name="password" value="{PASSWORD}">'
        other = tmp_path / "other.html"
        other.write_text(f'<form method="post" action="http://{HOST}:{page.port}/login">{fields}</form>')

        async def script(tab: Tab) -> None:
            await tab.open(other.as_uri())
            await tab.value("document.forms[0].submit()")
            await at(tab, "/login")
            assert "cross-origin request" in await tab.value("document.body.textContent")
            await tab.open(f"http://{HOST}:{page.port}/")
            await at(tab, "/login")
            done.append("refused")

        done: list[str] = []
        browse(tmp_path / "profile", script)
    assert done == ["refused"]
