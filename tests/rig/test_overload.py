"""A live rig on a machine that is too slow says so, with what would be fast enough, and may use a lighter model."""

import json
import logging
import threading
import time

import numpy as np
import pytest
from helpers.waiting import wait_for

import fusepipe
from fusepipe.config.schema import Rig
from fusepipe.core.errors import EngineError
from fusepipe.core.fuser import FunctionFuser, FuserInfo
from fusepipe.pipeline.testing import CollectSink
from fusepipe.rig.overload import ladder
from fusepipe.rig.overload.advice import Sharing, SlowStage, advice, smaller_size
from fusepipe.rig.overload.detector import LoadSample, Overload, OverloadDetector
from fusepipe.rig.overload.ladder import FIRST_HOLD_NS, MAX_HOLD_NS, SOON_NS, Ladder
from fusepipe.rig.overload.trial import Option, candidates, lighter_models
from fusepipe.rig.overload.watch import OverloadWatch, live_rigs
from fusepipe.rig.report.summary import summary_lines

S = 1_000_000_000


# -- pure parts


def run(detector: OverloadDetector, seconds: int, start: LoadSample, share: float, box: str = "registered"):
    """``seconds`` at 30 pairs a second, of which ``share`` is dropped."""
    sample = start
    for _ in range(seconds):
        lost = round(30 * share)
        before_fusion = 0 if box.startswith("sink-") else lost
        sample = LoadSample(
            sample.at_ns + S,
            sample.paired + 30,
            sample.fused + 30 - before_fusion,
            {**sample.dropped, box: sample.dropped.get(box, 0) + lost},
        )
        detector.add(sample)
    return sample


def test_an_overload_begins_after_seconds_and_ends_after_more():
    detector = OverloadDetector()
    at = run(detector, 4, LoadSample(0, 0, 1, {}), 0.9)
    assert detector.overload is None and detector.deciding
    at = run(detector, 3, at, 0.9)
    assert detector.overload == Overload("registered", 30, 3)
    at = run(detector, 8, at, 0.0)
    assert detector.overload is not None, "a short pause is not a recovery"
    run(detector, 5, at, 0.0)
    assert detector.overload is None and not detector.deciding


def test_single_drops_are_not_an_overload_and_neither_is_the_start_of_an_engine():
    detector = OverloadDetector()
    run(detector, 60, LoadSample(0, 0, 1, {}), 0.07)
    assert detector.overload is None
    compiling = OverloadDetector()
    for second in range(20):
        compiling.add(LoadSample(second * S, 30 * second, 0, {"registered": 30 * second}))
    assert compiling.overload is None


def test_a_slow_output_is_distinguished_from_slow_fusion_and_a_drift_watch_drops_by_design():
    detector = OverloadDetector()
    run(detector, 8, LoadSample(0, 0, 1, {}), 0.5, "sink-2")
    assert detector.overload == Overload("sink-2", 30, 15)
    watched = OverloadDetector()
    run(watched, 8, LoadSample(0, 0, 1, {}), 0.9, "drift")
    assert watched.overload is None


def test_the_advice_has_measured_costs_and_leaves_out_what_is_not_lighter():
    options = [Option("fusion.precision: int8", 400), Option("fusion.model: stream", 18.2), Option("mean", 1.5)]
    text = advice(Overload("registered", 30, 3.2), SlowStage("fusion (mfe)", 312, (720, 1280)), options)
    assert text == (
        "too slow: 3.2 of 30.0 frames per second; fusion (mfe) takes 312 ms per frame, 33 ms are available; "
        "measured here: fusion.model: stream 18 ms, mean 1.5 ms; or output.size: 384x208 (estimated); "
        "or cameras at 3 fps"
    )
    none = advice(Overload("registered", 30, 20), SlowStage("fusion (mean)", 40), [Option("max", 45)])
    assert none.endswith("no lighter model is faster here; or cameras at 20 fps")
    sink = advice(Overload("sink-1", 30, 15), SlowStage("rtsp://0.0.0.0:8554/roof", 66), [])
    assert "rtsp://0.0.0.0:8554/roof takes 66 ms per frame" in sink and "preset" in sink
    idle = advice(Overload("registered", 10, 8), SlowStage("fusion (mean)", 0.4, (240, 320)), [Option("max", 0.1)])
    assert "8.0 of 10.0 frames per second; fusion (mean) takes only 0.4 ms of 100 ms per frame" in idle
    assert "other programs" in idle and "max" not in idle
    assert "the CPU is fully used" in advice(Overload("visible", 30, 15), SlowStage("pairing (visible)", None), [])
    assert smaller_size((480, 640), 1.2) == "" and smaller_size((480, 640), 1e-9) == "16x16"


def test_the_advice_for_several_rigs_says_what_they_share():
    late, sharing = Overload("registered", 25, 12.7), Sharing(4, 2.0)
    text = advice(late, SlowStage("fusion (stream)", 57, (480, 640)), [Option("fusion.model: mean", 5)], sharing)
    assert text == (
        "too slow: 12.7 of 25.0 frames per second; fusion (stream) takes 57 ms per frame while 4 rigs share 2 cores, "
        "40 ms are available; measured here: fusion.model: mean 5.0 ms; or output.size: 496x368 (estimated); "
        "or cameras at 12 fps; or fewer rigs"
    )
    idle = advice(late, SlowStage("registration", 2), [], sharing)
    assert "other programs or rigs (4 rigs share 2 cores)" in idle and idle.endswith("at 12 fps; or fewer rigs")
    pairing = advice(late, SlowStage("pairing (visible)", None), [], sharing)
    assert "the CPU is fully used, 4 rigs share 2 cores" in pairing and pairing.endswith("or fewer rigs")
    assert "rigs" not in advice(late, SlowStage("fusion (stream)", 57), [], Sharing(1, 2.0))


def test_which_models_are_lighter():
    assert lighter_models("mfe") == ["stream", "mean"] and lighter_models("stream") == ["mean"]
    assert lighter_models("mean") == lighter_models("max") == []
    assert [c.text for c in candidates(FuserInfo("stream", "openvino", "fp32"))] == [
        "fusion.precision: int8",
        "fusion.model: mean",
    ]
    assert candidates(FuserInfo("mfe", "tensorrt", "fp16", "cuda:0")) == []


def test_the_ladder_returns_only_to_what_fits_and_waits_longer_each_time_it_was_wrong():
    steps = Ladder(2)
    assert steps.overloaded(0) and steps.overloaded(1) and not steps.overloaded(2), "the lowest level is the last"
    assert not steps.asks(FIRST_HOLD_NS) and steps.asks(FIRST_HOLD_NS + 2)
    at = FIRST_HOLD_NS + 2
    assert not steps.answer(at, 1, 0.9) and steps.level == 2
    assert not steps.asks(at + FIRST_HOLD_NS) and steps.asks(at + 2 * FIRST_HOLD_NS)
    at += 2 * FIRST_HOLD_NS
    assert steps.answer(at, 1, 0.5) and steps.level == 1
    assert steps.overloaded(at + SOON_NS // 2), "it was not fast enough after all"
    assert not steps.asks(at + SOON_NS // 2 + 3 * FIRST_HOLD_NS), "the hold has doubled again"
    for _ in range(20):
        at += MAX_HOLD_NS
        assert steps.asks(at + SOON_NS) and not steps.answer(at, 1, 2.0), "never longer than the maximum"


def test_a_level_that_cannot_be_used_is_left_out_and_the_next_one_is_tried():
    steps = Ladder(2)
    assert steps.overloaded(0)
    steps.leave_out()
    assert steps.level == 0 and not steps.asks(MAX_HOLD_NS)
    assert steps.overloaded(1) and steps.level == 1 and not steps.overloaded(2), "one is left"


# -- a rig


class SlowFuser(FunctionFuser):
    """Named like the large network; takes ``seconds`` per frame."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(FuserInfo("mfe", "test", "fp32"), self._fuse)

    def _fuse(self, infrared, visible):
        time.sleep(self.seconds)
        return np.maximum(infrared, visible)


WAIT_S = 150.0  # for what takes seconds on an idle machine
FUSE_S = 1.0  # of a fuser that is too slow: a machine that is far too busy still makes several pairs in this time


def live_rig(fps: int = 25, **fusion) -> Rig:
    common = f"pace=real&fps={fps}&duration=10min"
    return Rig.model_validate(
        {
            "name": "roof",
            "infrared": {"url": f"synthetic://street?band=infrared&size=160x120&{common}"},
            "visible": {"url": f"synthetic://street?band=visible&size=320x240&{common}"},
            "registration": {"calibration": "synthetic://street"},
            "fusion": fusion,
        }
    )


@pytest.mark.serial  # a rig in real time
def test_an_overloaded_rig_reports_what_comes_out_and_logs_one_line_of_advice(caplog):
    caplog.set_level(logging.INFO)
    before = live_rigs()
    pipeline = fusepipe.Pipeline(live_rig(), sinks=[sink := CollectSink()], fuser=SlowFuser(FUSE_S))
    pipeline.start()
    try:
        wait_for(lambda: pipeline.report().overload["message"], WAIT_S)
        assert live_rigs() == before + 1
        wait_for(lambda: "measured here" in pipeline.report().overload["message"], WAIT_S)
        recent = pipeline.graph.statistics.recent(time.monotonic_ns())
        shown = pipeline.graph.sinks_recently(time.monotonic_ns())[0]
        report = pipeline.report()
    finally:
        pipeline.drain()
        pipeline.wait(60)
    assert 0 < recent["fused_per_s"] < 1.2 / FUSE_S and recent["paired_per_s"] > 1.5 * recent["fused_per_s"]
    assert shown["frames_per_s"] == pytest.approx(recent["fused_per_s"], abs=0.7)
    assert recent["stage_ms"]["fuse"] >= 1000 * FUSE_S
    assert report.status.state == "degraded" and any("too slow" in reason for reason in report.status.reasons)
    lines = [r.getMessage() for r in caplog.records if "too slow" in r.getMessage()]
    assert len(lines) == 1, lines
    assert "fusion (mfe, test fp32, 320x240) takes " in lines[0] and "fusion.model: " in lines[0]
    end = pipeline.report()
    assert sum(end.pairs.values()) == len(sink.frames) == end.sinks[0]["frames"], "dropped pairs do not count as fused"
    assert end.dropped["registered"] > sum(end.pairs.values())
    assert end.overload["times"] == 1
    lines = summary_lines(end)
    assert f"{end.dropped['registered']} pairs before fusion" in next(line for line in lines if "dropped" in line)
    summary = next(line for line in lines if "too slow 1 time" in line)
    assert summary.endswith(end.overload["last_message"].removeprefix("too slow: "))
    assert live_rigs() == before, "the rig does not count after its end"
    assert "this machine is too slow" in (end.shortfall or "")


class HungFuser(FunctionFuser):
    """Its first frame takes until ``release`` is set."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        super().__init__(FuserInfo("mfe", "test", "fp32"), self._fuse)

    def _fuse(self, infrared, visible):
        self.entered.set()
        assert self.release.wait(120)
        return np.maximum(infrared, visible)


@pytest.mark.serial  # two rigs in real time
def test_a_rig_whose_fusion_hangs_does_not_delay_another_rig_of_the_process():
    hung, quick = HungFuser(), SlowFuser(0.0)
    slow = fusepipe.Pipeline(live_rig(), sinks=[CollectSink()], fuser=hung)
    other = fusepipe.Pipeline(live_rig(), sinks=[sink := CollectSink()], fuser=quick)
    slow.start()
    other.start()
    try:
        assert hung.entered.wait(60)
        before = len(sink.frames)
        wait_for(lambda: len(sink.frames) > before + 5, 100)
        wait_for(lambda: slow.report().dropped.get("registered", 0) > 2, 100)
        assert not slow.report().pairs.get("fused")
    finally:
        hung.release.set()
        for pipeline in (slow, other):
            pipeline.drain()
            pipeline.wait(60)
    assert slow.report().pairs["fused"] > 0, "it goes on where it was"


@pytest.mark.serial  # a rig in real time
def test_a_rig_steps_to_a_lighter_model_and_back_and_labels_its_frames(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(ladder, "FIRST_HOLD_NS", 2 * S)
    fuser = SlowFuser(FUSE_S)
    # at a rate that the lighter model has ten times over on an idle machine
    pipeline = fusepipe.Pipeline(live_rig(6, on_overload="lighter"), sinks=[sink := CollectSink()], fuser=fuser)
    pipeline.start()
    try:
        wait_for(lambda: pipeline.report().overload["lighter_model"] == "stream", WAIT_S)
        wait_for(lambda: sink.frames[-1].substitute is not None, WAIT_S)
        reasons = pipeline.report().status.reasons
        wait_for(lambda: pipeline.report().overload["message"] is None, WAIT_S)
        assert "fused by the lighter model stream" in pipeline.report().status.reasons, reasons
        fuser.seconds = 0.0
        wait_for(lambda: pipeline.report().overload["lighter_model"] is None, WAIT_S)
        wait_for(lambda: sink.frames[-1].substitute is None, WAIT_S)
    finally:
        pipeline.drain()
        pipeline.wait(60)
    used = {f.substitute.model for f in sink.frames if f.substitute is not None}
    assert used == {"stream"}
    text = caplog.text
    assert "the CPU is too slow for mfe; fusing with stream" in text
    assert "the CPU is fast enough again; fusing with mfe" in text and "keeps up again after" in text
    assert pipeline.report().overload["lighter_s"]["stream"] > 1
    assert json.dumps(pipeline.report().as_json())


@pytest.mark.serial  # a rig in real time
def test_a_lighter_model_that_cannot_be_opened_is_not_reported_as_in_use(monkeypatch, caplog):
    """The other one is used instead; of the first, what was opened of it is closed."""
    closed = threading.Event()

    class Unprepared(FunctionFuser):
        def prepare(self, height, width, batch=1):
            raise EngineError("no memory")

        def close(self):
            closed.set()

    def load(model):
        info = FuserInfo(model, "test", "fp32")
        return (Unprepared if model == "stream" else FunctionFuser)(info, np.maximum)

    monkeypatch.setitem(OverloadWatch.__init__.__kwdefaults__, "load", load)
    pipeline = fusepipe.Pipeline(
        live_rig(6, on_overload="lighter"), sinks=[sink := CollectSink()], fuser=SlowFuser(FUSE_S)
    )
    pipeline.start()
    try:
        wait_for(closed.is_set, WAIT_S)
        reported = set()

        def lighter():
            reported.add(pipeline.report().overload["lighter_model"])
            return sink.frames and sink.frames[-1].substitute is not None

        wait_for(lighter, WAIT_S)
    finally:
        pipeline.drain()
        pipeline.wait(60)
    assert {f.substitute.model for f in sink.frames if f.substitute is not None} == {"mean"}
    assert reported <= {None, "mean"} and pipeline.report().overload["lighter_model"] == "mean"
    assert "the lighter model stream cannot be used: no memory" in caplog.text
