"""STUN and TURN servers of the page's video: relayed and reflexive candidates, in aiortc and in a browser."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

aiortc = pytest.importorskip("aiortc", reason="needs aiortc: pip install 'fusepipe[webrtc]'")

from aiortc import RTCConfiguration, RTCIceServer  # noqa: E402
from helpers.chromium import Tab, browse  # noqa: E402
from helpers.ports import free_port  # noqa: E402
from helpers.turn_server import PASSWORD, USER, TurnServer, turn_server  # noqa: E402
from helpers.webrtc_page import HOST, SDP, Page, Player  # noqa: E402

from fusepipe.pipeline.servers.web.ice import (  # noqa: E402
    MAX_CANDIDATES,
    IceServer,
    link_headers,
    usable_candidates,
)

TOKEN = "token-of-the-page"
PLAYING = "!document.getElementById('video').hidden && document.getElementById('video').currentTime > 0"
# both sides have only relayed addresses: the server does not learn that of the browser unless the offer has it
RELAY_ONLY = """
  const Real = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    constructor(configuration) {
      super({ ...configuration, iceTransportPolicy: "relay" });
      window.peer = this;
      window.configuration = configuration;
    }
    setRemoteDescription({ type, sdp }) {
      const kept = sdp.split("\\r\\n").filter((line) => !/^a=candidate.* typ host/.test(line));
      return super.setRemoteDescription({ type, sdp: kept.join("\\r\\n") });
    }
  };
"""
# the types of the candidates that carry the video
PAIR = """(async () => {
  const stats = await window.peer.getStats(), byId = (id) => stats.get(id);
  const pair = [...stats.values()].find((each) => each.type === "candidate-pair" && each.nominated);
  return [byId(pair.localCandidateId).candidateType, byId(pair.remoteCandidateId).candidateType];
})()"""


# -- rules


def test_servers_are_told_in_link_headers() -> None:
    login = IceServer(("turn:h", "stun:h"), 'a"b', "c\\d")
    assert link_headers([IceServer(("stun:s:1",)), login]) == [
        '<stun:s:1>; rel="ice-server"',
        '<turn:h>; rel="ice-server"; username="a\\"b"; credential="c\\\\d"; credential-type="password"',
        '<stun:h>; rel="ice-server"',
    ]
    assert "c\\d" not in repr(login)


def candidate(address: str, *, transport: str = "udp", port: int = 5000, component: int = 1, kind: str = "host") -> str:
    return f"a=candidate:1 {component} {transport} 2113937151 {address} {port} typ {kind} generation 0"


@pytest.mark.parametrize(
    ("line", "usable"),
    [
        (candidate("192.0.2.7"), True),
        (candidate("2001:db8::7", kind="relay"), True),
        (candidate("10.0.0.7", transport="UDP"), True),
        (candidate("192.0.2.7", transport="tcp", port=9), False),
        (candidate("192.0.2.7", component=2), False),
        (candidate("192.0.2.7", port=0), False),
        (candidate("192.0.2.7", port=70000), False),
        (candidate("192.0.2.7", kind="other"), False),
        (candidate("0a1b2c.local"), False),
        (candidate("rig.example.org"), False),
        (candidate("127.0.0.1"), False),
        (candidate("::1"), False),
        (candidate("0.0.0.0"), False),
        (candidate("224.0.0.1"), False),
        (candidate("255.255.255.255"), False),
        ("a=candidate:1 1 udp", False),
        ("a=candidate:1 1 udp -5 192.0.2.7 5000 typ host", False),
    ],
)
def test_which_candidates_of_a_viewer_are_tried(line: str, usable: bool) -> None:
    assert usable_candidates([line], "192.0.2.1") == ([line] if usable else [])


def test_loopback_and_number_of_candidates() -> None:
    assert usable_candidates([candidate("127.0.0.1")], HOST)
    many = [candidate("192.0.2.7", port=5000 + n) for n in range(40)]
    assert usable_candidates([*many, *many], HOST) == many[:MAX_CANDIDATES]


# -- with a TURN server


@pytest.fixture
def turn(tmp_path: Path) -> Iterator[TurnServer]:
    with turn_server(tmp_path) as made:
        yield made


class IcePlayer(Player):
    """A player with ``servers``; ``relay`` uses no address of its own, ``answered`` keeps those of the answer."""

    def __init__(self, session, url, servers=(), *, relay=False, answered="host srflx relay"):
        super().__init__(session, url)
        given = [RTCIceServer(list(each.urls), each.username, each.credential) for each in servers]
        policy = aiortc.RTCIceTransportPolicy.RELAY if relay else aiortc.RTCIceTransportPolicy.ALL
        self.configuration = RTCConfiguration(iceServers=given, iceTransportPolicy=policy)
        self.answered = answered.split()

    async def join(self):
        self.peer = aiortc.RTCPeerConnection(self.configuration)
        self.receiver = self.peer.addTransceiver("video", "recvonly").receiver
        await self.peer.setLocalDescription()
        self.task = asyncio.create_task(self._watch())
        end_s = time.monotonic() + 60
        while True:
            data = self.peer.localDescription.sdp
            async with self.session.post(self.url, data=data, headers=SDP) as answer:
                self.answer = await answer.text()
                if answer.status == 201 or time.monotonic() > end_s:
                    break
            await asyncio.sleep(0.2)
        self.kinds = re.findall(r"^a=candidate:.* typ (\w+)", self.answer, re.MULTILINE)
        lines = [line for line in self.answer.splitlines() if self._kept(line)]
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription("\r\n".join([*lines, ""]), "answer"))
        return self

    def _kept(self, line):
        found = re.match(r"a=candidate:.* typ (\w+)", line)
        return found is None or found[1] in self.answered


def frames_of(page: Page, *arguments, count: int = 10, timeout_s: float = 30.0, **options) -> IcePlayer:
    """A player that has had ``count`` frames; raises ``TimeoutError`` if it does not get them."""

    async def script() -> IcePlayer:
        async with aiohttp.ClientSession() as session:
            player = await IcePlayer(session, page.whep, *arguments, **options).join()
            try:
                await player.until(count, timeout_s)
            finally:
                await player.close()
            return player

    return asyncio.run(script())


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_video_goes_through_relays_of_both_sides(turn: TurnServer, transport: str) -> None:
    server = turn.server if transport == "udp" else turn.tcp_only
    with Page(ice_servers=(server,)) as page:
        player = frames_of(page, [server], relay=True, answered="relay")
        assert "relay" in player.kinds and player.frames[0].shape == (120, 160)
    assert turn.allocations == 2


@pytest.mark.slow
def test_a_server_behind_a_nat_is_reached_at_its_relay(turn: TurnServer) -> None:
    """The viewer has no TURN server; the address of this server does not reach it."""
    with Page(ice_servers=(turn.server,)) as page:
        frames_of(page, answered="relay")
    assert turn.allocations == 1


@pytest.mark.slow
def test_a_stun_server_adds_the_address_that_it_sees(turn: TurnServer) -> None:
    with Page(ice_servers=(turn.stun,)) as page:
        player = frames_of(page, answered="srflx")
        assert "srflx" in player.kinds and "relay" not in player.kinds
    assert turn.allocations == 0


@pytest.mark.slow
def test_without_servers_nothing_but_the_own_address_is_offered(turn: TurnServer) -> None:
    with Page() as page:
        player = frames_of(page)
        assert player.kinds == ["host"]
        with pytest.raises(TimeoutError):
            frames_of(page, answered="relay", timeout_s=4.0)
    assert turn.allocations == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["silent", "wrong"])
def test_a_turn_server_that_does_not_help_costs_three_seconds_and_a_line(
    turn: TurnServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    silent = IceServer((f"turn:{HOST}:{free_port()}",), USER, PASSWORD)
    wrong = IceServer(turn.server.urls, USER, "guess")
    with Page(ice_servers=(silent if kind == "silent" else wrong,)) as page:
        player = frames_of(page)
        frames_of(page)
    assert set(player.kinds) == {"host"}
    [line] = [record.getMessage() for record in caplog.records if "TURN" in record.getMessage()]
    assert line == "roof: WebRTC: the TURN server gives no address; check ice_servers"


@pytest.mark.slow
def test_a_browser_plays_through_the_relay_only(turn: TurnServer, tmp_path: Path) -> None:
    async def look(tab: Tab) -> None:
        await tab.call("Page.enable")
        await tab.call("Page.addScriptToEvaluateOnNewDocument", source=RELAY_ONLY)
        await tab.open(page.url(f"/?token={TOKEN}"))
        await tab.until(PLAYING, 60)
        servers = await tab.value("window.configuration.iceServers")
        assert [each["urls"] for each in servers] == list(turn.server.urls)
        assert servers[0]["username"] == USER and servers[0]["credential"] == PASSWORD
        seen.extend(await tab.value(PAIR))

    seen: list[str] = []
    with Page(ice_servers=(turn.server,), token=TOKEN) as page:
        browse(tmp_path / "profile", look)
    assert seen[0] == "relay" and seen[1] in ("relay", "prflx")  # as the browser met it in a check, before the answer
    assert turn.allocations >= 2


@pytest.mark.parametrize("admitted", [True, False])
def test_only_viewers_are_told_the_servers(admitted: bool) -> None:
    async def script() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"} if admitted else {}
        async with aiohttp.ClientSession() as session, session.options(page.whep, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == (204 if admitted else 401)
            assert answer.headers.getall("Link", []) == (link_headers([server]) if admitted else [])
            assert "hunter2" not in text

    server = IceServer(("turn:turn.example.org",), "ann", "hunter2")
    with Page(ice_servers=(server,), token=TOKEN) as page:
        asyncio.run(script())
