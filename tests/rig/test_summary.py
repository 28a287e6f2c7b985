"""What ``run`` and ``fuse`` print at their end, and which outputs they refuse before a network is loaded."""

import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from fusepipe.cli import main
from fusepipe.core.text import sized
from fusepipe.rig.factories import fusers


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Two folders of three images, and two short videos, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder, level in (("ir", 50), ("vis", 70)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            image = np.full((40, 60), 40 * number + level, np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
        writer = cv2.VideoWriter(f"{folder}.mkv", cv2.VideoWriter.fourcc(*"MJPG"), 25, (60, 40))
        for number in range(5):
            writer.write(np.full((40, 60, 3), 40 * number + level, np.uint8))
        writer.release()
    return tmp_path


@pytest.fixture
def call(capsys, monkeypatch):
    """Exit code, standard output and error of a command; ``loaded`` lists the networks it has loaded."""
    loaded = []
    made = fusers.model_factory
    monkeypatch.setattr(fusers, "model_factory", lambda model: (loaded.append(model), made(model))[1])

    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    run.loaded = loaded
    return run


def test_a_run_without_trouble_says_pairs_time_and_output(call, inputs):
    code, out, err = call("fuse", "ir.mkv", "vis.mkv", "-o", "o.mkv", "--model", "mean")
    first, second = out.splitlines()
    assert re.fullmatch(r"fuse: 5 pairs fused in \d+\.\d s, \d+\.\d pairs/s", first)
    assert re.fullmatch(r"  wrote .*/o\.mkv: 5 frames, \d+ (bytes|kB)", second)
    assert (code, err) == (0, "") and call.loaded == ["mean"]


@pytest.mark.parametrize(
    ("rate", "said"), [(12.5, "skipped: 1 unused infrared frame"), (6.25, "skipped: 3 unused infrared frames")]
)
def test_skipped_frames_are_counted_in_plain_words(call, inputs, rate, said):
    """Of 5 infrared images at 25 Hz those are unused that no visible one is near."""
    writer = cv2.VideoWriter("slow.mkv", cv2.VideoWriter.fourcc(*"MJPG"), rate, (60, 40))
    for number in range(3):
        writer.write(np.full((40, 60, 3), 40 * number + 70, np.uint8))
    writer.release()
    _, out, _ = call("fuse", "ir.mkv", "slow.mkv", "-o", "o.mkv", "--model", "mean")
    assert re.search(rf"  {said}(,| \(|$)", out, re.MULTILINE), out


def test_trouble_is_one_line_for_each_kind(call, inputs):
    for number in (3, 4, 5):
        cv2.imwrite(f"ir/{number}.png", np.full((40, 60), 9, np.uint8))
    (inputs / "ir" / "0.png").write_bytes(b"not an image")
    _, out, _ = call("fuse", "ir", "vis", "-o", "o", "--model", "mean")
    lines = out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("fuse: 2 pairs fused in")
    assert lines[2].startswith("  skipped: 1 unreadable infrared, 3 no visible partner (unreadable infrared: 0: ")
    assert lines[2].endswith("; 2 more with -v)")
    _, out, _ = call("fuse", "ir", "vis", "-o", "o2", "--model", "mean", "-v")
    assert [line[4:] for line in out.splitlines() if line.startswith("    no visible partner: ")] == [
        f"no visible partner: {number}" for number in (3, 4, 5)
    ]


def test_verbose_has_the_engine_and_the_skew_but_no_queue_latency_of_recordings(call, inputs):
    _, out, _ = call("fuse", "ir.mkv", "vis.mkv", "-o", "o.mkv", "--model", "mean", "--verbose")
    assert "  fused by mean on " in out and "  skew mean 0.00 ms" in out and "latency" not in out


def test_a_live_run_has_its_latency_and_clocks_with_verbose_only(call, tmp_path):
    (tmp_path / "r.yaml").write_text("""
schema: 1
rigs:
  live:
    infrared: {url: "synthetic://street?size=80x60&pace=real"}
    visible: {url: "synthetic://street?size=160x120&pace=real"}
    fusion: {model: mean}
    sinks: [{images: out}]
""")
    short = call("run", "--rig", str(tmp_path / "r.yaml"), "--duration", "400ms")[1]
    full = call("run", "--rig", str(tmp_path / "r.yaml"), "--duration", "400ms", "--overwrite", "-v")[1]
    assert "latency" not in short and "clock" not in short
    assert "  latency p50 " in full and "  infrared: clock " in full and "  states: " in full


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "1 byte"),
        (812, "812 bytes"),
        (4_321, "4 kB"),
        (999_999, "1.0 MB"),
        (1_710_000, "1.7 MB"),
        (2.5e11, "250 GB"),
    ],
)
def test_sizes_are_never_zero_of_a_unit(count, text):
    assert sized(count) == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ir/0.png", "vis/0.png", "-o", "one.png/o.png"), r"one\.png/o\.png: .*/one\.png is a file, not a folder"),
        (("ir", "vis", "-o", "one.png/o"), r"one\.png is a file, not a folder"),
        (("ir.mkv", "vis.mkv", "-o", "one.png/o.mkv"), r"one\.png is a file, not a folder"),
        (("ir/0.png", "vis/0.png", "-o", "/proc/o.png"), r"/proc/o\.png: no file can be created in /proc"),
        (("ir", "vis", "-o", "/proc/o/"), r"/proc/o: no file can be created in /proc"),
        (("ir.mkv", "vis.mkv", "-o", "/proc/o.mkv"), r"/proc/o\.mkv: no file can be created in /proc"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_outputs_are_checked_before_a_network_is_loaded(call, inputs, words, message):
    (inputs / "one.png").write_bytes(b"")
    code, out, err = call("fuse", *words)
    assert code == 5 and out == "" and re.search(message, err) and err.count("\n") == 1
    assert call.loaded == []


def test_a_read_only_mount_is_named_before_a_network_is_loaded(tmp_path, inputs):
    """In a mount namespace of its own, which ends with the process."""
    code = (
        "import sys; from fusepipe.cli import main; from fusepipe.rig.factories import fusers;"
        "fusers.model_factory = lambda model: print('loaded', model);"
        "main(['fuse', 'ir/0.png', 'vis/0.png', '-o', 'ro/o.png'])"
    )
    (tmp_path / "ro").mkdir()
    shell = f'mount -t tmpfs -o ro tmpfs ro && exec "{sys.executable}" -c "{code}"'
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", shell]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no mount namespaces here: {ran.stderr.strip()}")
    assert ran.returncode == 5 and "Read-only file system" in ran.stderr and "loaded" not in ran.stdout


def test_a_format_of_images_is_refused_for_a_video(call, inputs):
    code, _, err = call("fuse", "ir.mkv", "vis.mkv", "-o", "o.mkv", "--format", "jpg")
    assert code == 2 and "--format jpg is for images in a folder, and o.mkv is a video" in err


def test_a_left_over_file_is_called_playable_only_where_it_plays(call, inputs):
    words = ("fuse", "ir.mkv", "vis.mkv", "-o", "o.mkv", "--model", "mean")
    (inputs / "o.partial.mkv").write_bytes(b"\x1aE\xdf\xa3")
    assert "o.partial.mkv: left over from an interrupted run; move it away" in call(*words)[2]
    (inputs / "o.partial.mkv").write_bytes((inputs / "ir.mkv").read_bytes())
    assert "left over from an interrupted run, still playable; move" in call(*words)[2]


DEMO = """
schema: 1
rigs:
  demo:
    infrared: {url: "synthetic://street?size=40x30&duration=80ms"}
    visible: {url: "VISIBLE"}
    fusion: {model: mean}
    sinks: [{SINK}]
"""
STREET = "synthetic://street?size=40x30&duration=80ms"


@pytest.mark.parametrize(
    ("visible", "sink", "told"),
    [(STREET, "file: 'my out/o.mkv'", True), (STREET, "images: o", False), ("vis.mkv", "file: o.mkv", False)],
)
def test_a_demo_says_what_its_video_shows_and_how_to_play_it(call, inputs, visible, sink, told):
    (inputs / "rigs.yaml").write_text(DEMO.replace("VISIBLE", visible).replace("SINK", sink))
    code, out, err = call("run")
    assert code == 0, err
    assert ("a rendered street" in out) == told
    assert [line.strip() for line in out.splitlines() if "play it" in line] == (
        [f"play it: ffplay '{inputs}/my out/o.mkv', or any video player"] if told else []
    )
