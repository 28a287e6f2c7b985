"""When a run is said to have fused too little."""

import pytest

import fusepipe
from fusepipe.config.schema import Rig
from fusepipe.core.errors import SourceError
from fusepipe.pipeline.testing import CollectSink
from fusepipe.rig.report.shortfall import IN_FLIGHT, shortfall


@pytest.mark.parametrize(
    ("fused", "read", "whole", "expected"),
    [
        (50, 100, True, ""),
        (49, 100, True, "only 49 of 100"),
        (0, 100, True, "no pair was fused"),
        (1, 1 + IN_FLIGHT, False, ""),
        (3, 40, False, "only 3 of 16"),
        (0, 40, False, "no pair was fused"),
    ],
)
def test_the_share_of_the_possible_pairs(fused, read, whole, expected):
    text = shortfall({"fused": fused, "held": 9}, {"infrared": read, "visible": 3 * read}, {}, whole=whole)
    assert text.startswith(expected) and bool(text) == bool(expected)


@pytest.mark.parametrize(
    ("pairs", "skipped", "advice"),
    [
        ({"fused": 1}, {"no visible partner": 8}, "same file stem"),
        ({"fused": 1, "held": 9}, {}, "sync.tolerance"),
        ({"fused": 1, "single": 9}, {}, "sync.offset"),
        ({"fused": 1}, {"unreadable infrared": 9}, "damaged input"),
    ],
)
def test_the_advice_names_the_cause(pairs, skipped, advice):
    assert advice in shortfall(pairs, {"infrared": 10, "visible": 10}, skipped, whole=True)


def test_a_camera_that_delivered_nothing():
    text = shortfall({"single": 5}, {"visible": 5}, {}, whole=False, dropped={"registered": 3})
    assert text == (
        "no pair was fused (5 single, 3 dropped before fusion); no frames from the infrared camera; "
        "check that it is on and reachable"
    )
    text = shortfall({"no signal": 5}, {}, {}, whole=False)
    assert text.endswith("no frames from the infrared and the visible camera; check that they are on and reachable")


@pytest.mark.parametrize(
    ("errors", "advice"),
    [
        ({"infrared": "a: not found"}, "a: not found; check that the visible one is on and reachable"),
        ({"visible": "b: timeout", "infrared": "a: not found"}, "a: not found; b: timeout"),
    ],
)
def test_why_cameras_deliver_nothing_is_named(errors, advice):
    text = shortfall({"no signal": 5}, {}, {}, whole=False, errors=errors)
    assert text.endswith(f"no frames from the infrared and the visible camera; {advice}")


@pytest.mark.serial  # a camera
def test_a_path_that_the_camera_does_not_know_is_named_at_the_end(rtsp_camera):
    url = rtsp_camera(user="ann:hunter2").url.replace("/cam", "/nope")
    rig = {
        "name": "mast",
        "infrared": {"url": url.replace("//", "//ann:hunter2@")},
        "visible": {"url": "synthetic://street?band=visible&pace=real&size=80x60&fps=25"},
        "fusion": {"model": "mean"},
    }
    pipeline = fusepipe.Pipeline(Rig.model_validate(rig), sinks=[CollectSink()], duration_s=0.5)
    with pytest.raises(SourceError) as caught:
        pipeline.run()
    text = str(caught.value)
    assert "no frames from the infrared camera; rtsp://" in text and "/nope: not found (" in text, text
    assert "404" in text and text.endswith("check the path of the URL") and "hunter2" not in text, text


def test_pairs_that_were_dropped_before_fusion_are_named_with_their_cause():
    read = {"infrared": 300, "visible": 300}
    text = shortfall({"fused": 40}, read, {}, whole=False, dropped={"registered": 250, "sink-1": 9})
    assert text.startswith(
        "only 40 of 276 possible pairs were fused (250 dropped before fusion); this machine is too slow"
    )
    assert "sync.offset" in shortfall({"fused": 40}, read, {}, whole=False, dropped={"registered": 9})


def test_a_live_run_of_held_pairs_only_is_an_error():
    rig = {
        "name": "held",
        "infrared": {"url": "synthetic://street?band=infrared&pace=real&size=80x60&fps=5"},
        "visible": {"url": "synthetic://street?band=visible&pace=real&size=80x60&fps=25"},
        "sync": {"offset": "100ms", "tolerance": "0ms", "max_hold": "5s"},
        "fusion": {"model": "mean"},
    }
    pipeline = fusepipe.Pipeline(Rig.model_validate(rig), sinks=[CollectSink()], duration_s=1.5)
    with pytest.raises(SourceError, match=r"no pair was fused .*held.*sync\.tolerance"):
        pipeline.run()
    assert pipeline.report().pairs["held"] and "fused" not in pipeline.report().pairs
