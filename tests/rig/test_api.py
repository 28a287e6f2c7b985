"""``Pipeline`` for programs: what it takes, its callback, and what it says of a second run."""

import threading

import pytest

import fusepipe
from fusepipe.core.errors import ConfigError, FusepipeError, UsageError
from fusepipe.core.frames import Band
from fusepipe.pipeline.testing import MS, CollectSink, ListSource, frame

RIGS = """
schema: 1
defaults:
  fusion: {model: mean}
rigs:
  day:
    infrared: {url: "synthetic://street?size=80x60&duration=400ms"}
    visible: {url: "synthetic://street?size=160x120&duration=400ms"}
    sinks: [{file: out/day.mkv}]
  night:
    infrared: {url: "synthetic://street?size=80x60&duration=200ms"}
    visible: {url: "synthetic://street?size=160x120&duration=200ms"}
    sinks: [{file: out/night.mkv}]
"""


@pytest.fixture
def rigs(tmp_path):
    path = tmp_path / "rigs.yaml"
    path.write_text(RIGS)
    return path


def test_a_file_and_a_name_are_a_rig(rigs):
    assert sum(fusepipe.Pipeline(str(rigs), "night").run().pairs.values()) == 5
    assert (rigs.parent / "out" / "night.mkv").exists()
    with pytest.raises(UsageError, match=r"has 2 rigs \(day, night\); name one"):
        fusepipe.Pipeline(rigs)
    with pytest.raises(ConfigError, match="did you mean 'day'"):
        fusepipe.Pipeline(rigs, "dya")


def test_anything_else_is_named(rigs):
    with pytest.raises(UsageError, match=r"a pipeline runs a rig or a rigs\.yaml, not None"):
        fusepipe.Pipeline(None)
    with pytest.raises(UsageError, match=r"'night' is for a rigs\.yaml; this rig is 'day'"):
        fusepipe.Pipeline(fusepipe.load_rig(rigs, "day"), "night")


def test_a_second_run_says_so_in_one_line(rigs):
    pipeline = fusepipe.Pipeline(rigs, "day", sinks=[CollectSink()])
    pipeline.run()
    with pytest.raises(UsageError, match=r"^day: this pipeline was run before; make another one to run again$"):
        pipeline.run()


def test_the_pairs_of_a_report_print_plainly(rigs):
    assert str(fusepipe.Pipeline(rigs, "day", sinks=[CollectSink()]).run().pairs) == "{'fused': 10}"


def test_the_callback_gets_every_frame_besides_the_sinks(rigs):
    seen = []
    report = fusepipe.Pipeline(rigs, "day", on_frame=lambda one: seen.append((one.index, one.state))).run()
    assert seen == [(index, "fused") for index in range(10)]
    assert [sink["frames"] for sink in report.written] == [10, 10]
    assert (rigs.parent / "out" / "day.mkv").exists()


def test_an_exception_of_the_callback_ends_the_run_and_is_its_cause(rigs):
    def callback(one):
        raise KeyError("missing")

    with pytest.raises(FusepipeError, match=r"day: write-2 failed: KeyError: 'missing'") as raised:
        fusepipe.Pipeline(rigs, "day", on_frame=callback).run()
    assert isinstance(raised.value.__cause__, KeyError)
    assert not any(thread.name.startswith("day/") for thread in threading.enumerate())


def test_own_sources_take_the_place_of_one_or_both(rigs):
    own = ListSource(Band.INFRARED, [frame(Band.INFRARED, i, i * 40 * MS) for i in range(6)])
    report = fusepipe.Pipeline(rigs, "day", sources=(own, None), sinks=[CollectSink()]).run()
    assert report.sources["infrared"]["url"] == "list of 6 infrared frames"
    assert report.sources["visible"]["url"].startswith("synthetic://street")
    assert report.pairs["fused"] == 6 and own.closed
    with pytest.raises(UsageError, match=r"the visible source has band = .*; sources are \(infrared, visible\)"):
        fusepipe.Pipeline(rigs, "day", sources=(None, own))
