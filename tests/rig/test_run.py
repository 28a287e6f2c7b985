"""``fusepipe run`` as a user calls it."""

import json
import os
import pty
import subprocess
import sys

import av
import pytest

from fusepipe.cli import main

TWO = """
schema: 1
defaults:
  fusion: {model: mean}
rigs:
  day:
    infrared: {url: "synthetic://street?size=80x60&duration=800ms"}
    visible: {url: "synthetic://street?size=160x120&duration=800ms"}
    registration: {calibration: "synthetic://street"}
    sinks: [{file: out/day.mkv}]
  night:
    infrared: {url: "synthetic://street?size=80x60&duration=400ms&light=night"}
    visible: {url: "synthetic://street?size=160x120&duration=400ms&light=night"}
    sinks: [{file: out/night.mkv}, {images: out/night}]
"""


@pytest.fixture
def rigs(tmp_path):
    path = tmp_path / "rigs.yaml"
    path.write_text(TWO)
    return path


@pytest.fixture
def run(capsys):
    def call(*args):
        with pytest.raises(SystemExit) as stopped:
            main(["run", *map(str, args)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


def count(path):
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def test_all_rigs_run_and_paths_are_relative_to_the_file(run, rigs, tmp_path):
    code, out, err = run("--rig", rigs)
    assert code == 0 and err == ""
    assert count(tmp_path / "out" / "day.mkv") == 20
    assert count(tmp_path / "out" / "night.mkv") == len(list((tmp_path / "out" / "night").iterdir())) == 10
    assert "day: 20 pairs fused" in out and "night: 10 pairs fused" in out


def test_name_selects(run, rigs, tmp_path):
    assert run("--rig", rigs, "--name", "night")[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["night", "night.mkv"]


def test_dry_run_opens_everything_and_writes_nothing(run, rigs, tmp_path):
    code, out, _ = run("--rig", rigs, "--dry-run")
    assert code == 0 and not (tmp_path / "out").exists()
    assert "infrared: synthetic://street?size=80x60&duration=800ms" in out and "mean on" in out
    code, out, _ = run("--rig", rigs, "--dry-run", "--json")
    assert [p["rig"] for p in json.loads(out)["plans"]] == ["day", "night"]


def test_dry_run_shows_the_rigs_of_each_process(run, rigs):
    code, out, _ = run("--rig", rigs, "--dry-run", "--processes", "8")
    assert code == 0 and out.endswith("process 1: day\nprocess 2: night\n"), out
    out = run("--rig", rigs, "--dry-run", "--processes", "2", "--json")[1]
    assert json.loads(out)["processes"] == [["day"], ["night"]]
    assert "process 1" not in run("--rig", rigs, "--dry-run", "--processes", "1")[1]
    code, _, err = run("--rig", rigs, "--dry-run", "--processes", "2", "--preview", "http://127.0.0.1:65535")
    assert code == 2 and "need the ports 65535 to 65536" in err


@pytest.mark.parametrize(("option", "value", "frames"), [("--max-pairs", "7", 7), ("--duration", "200ms", 5)])
def test_limits(run, rigs, tmp_path, option, value, frames):
    assert run("--rig", rigs, "--name", "day", option, value)[0] == 0
    assert count(tmp_path / "out" / "day.mkv") == frames


def test_the_record_of_all_rigs_is_one_document(run, rigs):
    code, out, err = run("--rig", rigs, "--json")
    record = json.loads(out)
    assert code == 0 and err == "" and [r["rig"] for r in record["rigs"]] == ["day", "night"]
    for rig in record["rigs"]:
        assert rig["pairs_per_s"] > 0 and rig["skew_ms"]["max"] == 0 and rig["latency_ms"]["p99"] > 0
        assert set(rig["stage_cpu_s"]) >= {"read-infrared", "read-visible", "pair", "register", "fuse", "write-1"}


def test_one_rig_that_cannot_start_does_not_disturb_the_other(run, rigs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "day.mkv").write_bytes(b"precious")
    code, out, err = run("--rig", rigs)
    assert code == 5 and "day.mkv: already exists; use --overwrite" in err
    assert "night: 10 pairs" in out and count(tmp_path / "out" / "night.mkv") == 10
    assert (tmp_path / "out" / "day.mkv").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--rig", "nowhere.yaml"], 2, "nowhere.yaml: there is no such file"),
        (["--rig", "{rigs}", "--name", "dya"], 2, "did you mean 'day'?"),
        (["--rig", "{rigs}", "--max-pairs", "0"], 2, "--max-pairs"),
        (["--rig", "{rigs}", "--duration", "5"], 2, "needs a unit"),
        (["--rgi", "{rigs}"], 2, "--rgi"),
    ],
)
def test_mistakes(run, rigs, args, code, words):
    got, out, err = run(*(a.format(rigs=rigs) for a in args))
    assert (got, out) == (code, "") and words in err and err.count("\n") == 1


def test_an_unknown_key_has_file_line_key_and_the_nearest(run, rigs):
    rigs.write_text(TWO.replace("sinks: [{file: out/day.mkv}]", "sinks: [{fiel: out/day.mkv}]"))
    code, _, err = run("--rig", rigs)
    assert code == 2 and f"{rigs}:10" in err and "rigs.day.sinks" in err and "did you mean 'file'?" in err


def test_the_progress_line_on_a_terminal(rigs):
    """On a terminal: pairs per second, latency percentiles and queue depths; off it: nothing."""
    text = TWO.replace("duration=800ms", "duration=3s&pace=real")
    rigs.write_text(text)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fusepipe", "run", "--rig", str(rigs), "--name", "day"],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "COLUMNS": "300", "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass  # the terminal's end of file
    finally:
        os.close(leader)
    process.communicate(timeout=30)
    line = shown.decode()
    assert process.returncode == 0
    for words in ("day:", "pairs", "/s", "latency", "queues infrared:", "paired:", "sink-1:"):
        assert words in line, line


def test_local_alignment_is_the_same_in_every_run(run, tmp_path):
    rigs = tmp_path / "rigs.yaml"
    camera = "synthetic://street?size={}&duration=400ms&parallax=6"
    written = []
    for name, local in (("off", "off"), ("first", "on"), ("second", "on")):
        rigs.write_text(
            f"""
schema: 1
rigs:
  roof:
    infrared: {{url: "{camera.format("80x60")}"}}
    visible: {{url: "{camera.format("160x120")}"}}
    registration: {{calibration: "synthetic://street", drift: watch, local: {local}, limit: 3}}
    fusion: {{model: mean}}
    sinks: [{{images: {name}}}]
"""
        )
        code, out, err = run("--rig", rigs, "--json")
        assert code == 0 and err == ""
        assert ("aligned locally" in out) == (local == "on")
        written.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    off, first, second = written
    assert len(first) == 10 and first == second and first != off
