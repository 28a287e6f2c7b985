"""Aligning by hand on the preview page: operators only, from the page itself, and nothing but numbers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers.chromium import Tab, browse
from helpers.page_users import PASSWORD, USERS
from helpers.preview_page import HOST, Page

from fusepipe.core.errors import UsageError
from fusepipe.core.rig_state import RigState, RigStatus
from fusepipe.pipeline.sinks.live.preview import PreviewStatus

TOKEN = "a-token-for-machines"
NONE = {"right": 0.0, "down": 0.0, "turn_deg": 0.0, "stretch": 1.0}


class Alignment:
    """Remembers what it is moved by; beyond a tenth it refuses."""

    def __init__(self) -> None:
        self.values, self.saves = dict(NONE), 0

    def state(self) -> dict[str, Any]:
        return {**self.values, "size": [640, 480], "saved": self.saves > 0, "problem": "", "unsavable": ""}

    def move_by(self, values: dict[str, float]) -> None:
        if values.get("right", 0.0) > 0.1:
            raise UsageError("right: too far")
        self.values = {**NONE, **values}

    def save(self) -> Path:
        self.saves += 1
        return Path("roof.calibration.yaml.now.bak")


@pytest.fixture
def alignment() -> Alignment:
    return Alignment()


@pytest.fixture
def page(alignment: Alignment) -> Iterator[Page]:
    with Page("0.0.0.0", users=USERS, token=TOKEN, alignment=alignment) as made:
        yield made


def ask(page: Page, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(f"http://{HOST}:{page.port}{path}", data, sent)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def session(page: Page, name: str) -> str:
    """The cookie of a user who has logged in."""
    data = f"name={name}&password={PASSWORD.replace(' ', '+')}".encode()
    request = urllib.request.Request(f"http://{HOST}:{page.port}/login", data, {"Origin": origin(page)})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=30)
    with caught.value as error:
        assert error.code == 303
        return str(error.headers["Set-Cookie"]).partition(";")[0]


def origin(page: Page) -> str:
    return f"http://{HOST}:{page.port}"


def test_only_operators_move_and_only_from_the_page(page: Page, alignment: Alignment) -> None:
    path, move = "/rigs/roof/alignment", {"right": 0.05}
    assert ask(page, path)[0] == 401 == ask(page, path, move, Origin=origin(page))[0]
    viewer, operator = session(page, "vic"), session(page, "ann")
    for asked in (path, f"{path}/save"):
        assert ask(page, asked, move, Cookie=viewer, Origin=origin(page)) == (403, "needs the role operator\n")
    assert ask(page, path, Cookie=viewer)[0] == 403, "nor does a viewer see the state"
    for foreign in ({}, {"Origin": "http://elsewhere.example"}, {"Sec_Fetch_Site": "cross-site"}):
        for asked in (path, f"{path}/save"):
            assert ask(page, asked, move, Cookie=operator, **foreign)[0] == 403, foreign
    assert alignment.values == NONE and alignment.saves == 0, "none of these has changed anything"
    status, text = ask(page, path, move, Cookie=operator, Origin=origin(page))
    assert status == 200 and json.loads(text)["right"] == 0.05 and alignment.values == {**NONE, **move}
    status, text = ask(page, f"{path}/save", "", Authorization=f"Bearer {TOKEN}")
    assert status == 200 and json.loads(text)["backup"].endswith(".bak") and alignment.saves == 1


def test_bad_requests_are_refused_in_a_line(page: Page, alignment: Alignment) -> None:
    path, token = "/rigs/roof/alignment", {"Authorization": f"Bearer {TOKEN}"}
    for body, status, text in (
        ("{", 400, "not JSON"),
        ([1], 400, "use an object of right, down, turn_deg, stretch"),
        ({"left": 1}, 400, "use an object of"),
        ({"right": "1"}, 400, "consists of numbers"),
        ({"right": True}, 400, "consists of numbers"),
        ('{"right": Infinity}', 400, "consists of numbers"),
        ('{"right": 1' + 400 * "0" + "}", 400, "consists of numbers"),
        (3000 * "[", 400, "not JSON"),
        ({"right": 0.2}, 409, "right: too far"),
    ):
        answer = ask(page, path, body, **token)
        assert answer[0] == status and text in answer[1], (body, answer)
    assert ask(page, path, "right=0.1", **token, Content_Type="text/plain")[0] == 415
    assert ask(page, "/rigs/none/alignment", {"right": 0.0}, **token)[0] == 404
    assert alignment.values == NONE
    with Page() as without:
        assert ask(without, path, {"right": 0.0}, Origin=origin(without))[0] == 404


@pytest.mark.slow
def test_once_a_rig_runs_arrow_keys_move_the_image_and_a_button_saves(alignment: Alignment, tmp_path: Path) -> None:
    async def look(tab: Tab) -> None:
        await tab.size(1200, 900)
        await tab.open(f"http://{HOST}:{page.port}/")
        await tab.until("document.getElementById('state').textContent === 'starting'")
        stack.enter_context(page)
        await tab.until("!document.getElementById('align').hidden")
        await tab.value("document.getElementById('align').focus()")
        for key, shift in (("ArrowRight", "true"), ("ArrowUp", "false"), (".", "false")):
            await tab.value(
                "document.getElementById('align').dispatchEvent("
                f"new KeyboardEvent('keydown', {{key: '{key}', shiftKey: {shift}, bubbles: true}}))"
            )
        note = "document.querySelector('#align output').textContent"
        await tab.until(f"{note}.startsWith('10 px right, -1 px down, 0.1°')")
        await tab.until(f"{note}.endsWith('not saved')")
        await tab.screenshot(tmp_path / "align.png")
        # a save while the last move is on its way comes after it
        await tab.value("for (const what of ['left', 'save']) document.querySelector(`[data-align=${what}]`).click()")
        await tab.until(f"{note}.includes('roof.calibration.yaml.now.bak')")

    page = Page(alignment=alignment)
    with ExitStack() as stack:
        listed = PreviewStatus(HOST, page.port, "roof", lambda: RigStatus(RigState.STARTING))
        stack.callback(listed.close)
        browse(tmp_path, look)
    assert alignment.values == pytest.approx({"right": 9 / 640, "down": -1 / 480, "turn_deg": 0.1, "stretch": 1.0})
    assert alignment.saves == 1
