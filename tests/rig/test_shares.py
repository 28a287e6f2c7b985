"""Which rigs run in which process."""

from __future__ import annotations

import pytest

from fusepipe.config.schema import Rig
from fusepipe.rig.process.shares import rig_shares, served_ports


def rig(name: str, *sinks: dict[str, object]) -> Rig:
    cameras = {band: {"url": f"synthetic://street?band={band}"} for band in ("infrared", "visible")}
    return Rig.model_validate({"name": name, **cameras, "sinks": list(sinks) or [{"images": f"out/{name}"}]})


def names(shares: list[list[Rig]]) -> list[list[str]]:
    return [[rig.name for rig in share] for share in shares]


@pytest.mark.parametrize(
    ("processes", "shares"),
    [
        (1, [list("abcde")]),
        (2, [list("ace"), list("bd")]),
        (5, list(map(list, "abcde"))),
        (9, list(map(list, "abcde"))),
    ],
)
def test_shares_are_as_equal_as_can_be_and_none_is_empty(processes: int, shares: list[list[str]]) -> None:
    assert names(rig_shares([rig(name) for name in "abcde"], processes)) == shares


def test_rigs_that_serve_on_one_port_stay_together_also_by_way_of_a_third() -> None:
    page, other = {"preview": "http://127.0.0.1:8080"}, {"preview": "http://0.0.0.0:8081"}
    stream = {"rtsp": "rtsp://127.0.0.1:8554/a"}
    rigs = [rig("a", stream), rig("b"), rig("c", page), rig("d", page, other), rig("e", other), rig("f")]
    assert names(rig_shares(rigs, 2)) == [["a", "b", "f"], ["c", "d", "e"]]


def test_a_port_that_is_pushed_to_is_not_served() -> None:
    push = {"rtsp": "rtsp+push://media.example.org:8554/roof"}
    assert served_ports(rig("a", push, {"preview": "http://127.0.0.1:8080"})) == {8080}
    assert names(rig_shares([rig("a", push), rig("b", {**push, "rtsp": f"{push['rtsp']}2"})], 2)) == [["a"], ["b"]]
