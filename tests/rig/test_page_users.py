"""The users of a rig file: they log in to its page while the rig runs."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from helpers.page_users import ANN, PASSWORD
from helpers.ports import free_port
from helpers.waiting import wait_for

import fusepipe
from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.sinks import PreviewSink
from fusepipe.pipeline.sinks.live.preview import SERVERS
from fusepipe.rig.factories.live_sinks import preview_sink

RIGS = """
schema: 1
rigs:
  roof:
    infrared: {{url: "synthetic://street?band=infrared&size=80x60&fps=10&pace=real&duration=60s"}}
    visible: {{url: "synthetic://street?band=visible&size=160x120&fps=10&pace=real&duration=60s"}}
    fusion: {{model: mean}}
    sinks:
      - preview: "http://127.0.0.1:{port}"
        users: [{{name: ann, role: operator, password_hash: "{hashed}"}}]
"""


def test_a_user_of_the_rig_file_logs_in(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "rigs.yaml"
    file.write_text(RIGS.format(port=port, hashed=ANN.password))
    url = f"http://127.0.0.1:{port}"
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(cookies)
    (rig,) = load_rig_file(file).select()
    pipeline = fusepipe.Pipeline(rig, duration_s=60)
    pipeline.start()
    try:
        wait_for(lambda: SERVERS.has("127.0.0.1", port))
        assert any(line.endswith(f"{port}/login, for 1 user of the rig file") for line in pipeline.announcements())
        with pytest.raises(urllib.error.HTTPError, match="401"):
            browser.open(f"{url}/api/rigs", timeout=15)
        with browser.open(f"{url}/", timeout=15) as page:
            assert page.url == f"{url}/login" and b"Log in" in page.read()
        form = urllib.parse.urlencode({"name": "ann", "password": PASSWORD}).encode()
        with browser.open(urllib.request.Request(f"{url}/login", form, {"Origin": url}), timeout=15) as page:
            assert page.url == f"{url}/"
        with browser.open(f"{url}/api/rigs", timeout=15) as answer:
            assert json.load(answer)["user"] == {"name": "ann", "role": "operator"}
    finally:
        pipeline.drain()
        pipeline.wait()
    pipeline.raise_error()


@pytest.mark.parametrize(("address", "warned"), [("http://127.0.0.1:9", False), ("http://0.0.0.0:9", True)])
def test_passwords_that_cross_a_network_without_encryption_are_warned_of(address: str, warned: bool) -> None:
    user = {"name": "ann", "password_hash": str(ANN.password)}
    warnings: list[str] = []
    for users in ([], [user]):
        page = PreviewSink.model_validate({"preview": address, "users": users})
        preview_sink(page, "roof", dict, live=False, warn=warnings.append)
    assert [line.startswith(f"{address}: passwords of its users are sent without") for line in warnings] == [
        True
    ] * warned
