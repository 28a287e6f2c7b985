"""The manifest of ``fusepipe batch``: its formats, and every row that is refused, by its line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.commands import batch, fuse
from fusepipe.core.errors import ConfigError, FusepipeError, SourceError, UsageError
from fusepipe.workflows.batch.entries import BatchEntry, RigChoice, output_folder, read_entries
from fusepipe.workflows.batch.rows import ManifestRow, read_rows

RIGS = """\
schema: 1
defaults:
  fusion: {model: mean}
rigs:
  roof:
    infrared: {url: a.mkv, fps: 9}
    visible: {url: b.mkv}
    sync: {offset: 15ms}
    registration: {calibration: roof.yaml}
    sinks: [{preview: "http://127.0.0.1:8080"}, {file: out/x.mkv, codec: ffv1}]
  gate:
    infrared: {url: a.mkv}
    visible: {url: b.mkv}
    sinks: [{images: out/}]
"""


def entries(folder: Path, *rows: dict[str, Any], shared: RigChoice | None = None) -> list[BatchEntry]:
    """The entries of rows, which have inputs if they name none; lines count from 2."""
    inputs = {"infrared": "ir.mkv", "visible": "vis.mkv"}
    listed = [ManifestRow(line, {**inputs, **row}) for line, row in enumerate(rows, 2)]
    manifest = folder / "clips.csv"
    manifest.touch()
    return read_entries(listed, str(manifest), folder / "out", shared=shared)


def test_all_formats_give_the_same_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    arrow = pytest.importorskip("pyarrow")
    rows = [
        {"infrared": "ir 1.mkv", "visible": "vis,1.mkv", "output": None, "infrared.fps": 9, "fusion.model": "mean"},
        {"infrared": "ir2.mkv", "visible": "ünï.mkv", "output": "b.mkv", "infrared.fps": None, "fusion.model": None},
    ]
    text = 'infrared,visible,output,infrared.fps,fusion.model\nir 1.mkv,"vis,1.mkv",,9,mean\nir2.mkv,ünï.mkv,b.mkv,,\n'
    (tmp_path / "a.csv").write_text(f"\ufeff{text}\n", "utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    csv, lines, columns = (read_rows(str(tmp_path / f"a.{suffix}")) for suffix in ("csv", "jsonl", "parquet"))
    assert [row.values for row in csv] == [row.values for row in lines] == [row.values for row in columns]
    assert csv[0].values["infrared.fps"] == 9 and "output" not in csv[0].values
    assert [row.line for row in csv] == [2, 3] and [row.line for row in lines] == [1, 2]


def test_a_value_that_is_no_json_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"infrared,fusion.model\na.mkv,{5000 * '['}\n")
    (row,) = read_rows(str(tmp_path / "a.csv"))
    assert row.values["fusion.model"] == 5000 * "["


def test_spaces_after_commas_are_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('infrared, visible, output\nir.mkv, vis.mkv, " a.mkv"\n')
    (row,) = read_rows(str(tmp_path / "a.csv"))
    assert row.values == {"infrared": "ir.mkv", "visible": "vis.mkv", "output": " a.mkv"}


def test_a_pattern_without_a_match_and_a_folder_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="matches no file"):
        read_rows(f"{tmp_path}/*.mkv", "vis.mkv")
    with monkeypatch.context() as not_root:
        closed = [tmp_path]
        not_root.setattr(os, "access", lambda path, mode: Path(path) not in closed)
        with pytest.raises(SourceError, match=f"no permission to read {tmp_path}$"):
            read_rows(f"{tmp_path}/*.mkv", "vis.mkv")
        closed[0] = tmp_path.parent  # then it is not known what is inside
        with pytest.raises(SourceError, match=f"no permission to read {tmp_path.parent}$"):
            read_rows(f"{tmp_path}/unknown/*.mkv", "vis.mkv")
    with pytest.raises(UsageError, match=r"is a folder; write a pattern such as '.*/\*\.mkv'"):
        read_rows(str(tmp_path))


def test_a_pattern_is_a_row_for_each_match_in_natural_order(tmp_path: Path) -> None:
    for name in ("clip2", "clip10"):
        (tmp_path / f"{name}.mkv").touch()
    rows = read_rows(f"{tmp_path}/*.mkv", "{parent}/vis/{stem}.mp4")
    assert [row.values["visible"] for row in rows] == [f"{tmp_path}/vis/clip{number}.mp4" for number in (2, 10)]


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("a.csv", None, SourceError, "no such file"),
        ("a.csv", b"", SourceError, "is empty"),
        ("a.csv", b"infrared,visible\n", ConfigError, r"a\.csv:1: is the heading, .* no line with a clip below it"),
        ("a.csv", b"infrared,visible\n\n,\n", SourceError, "names no clips"),
        ("a.csv", b"ir.mkv,vis.mkv,a.mkv\n", ConfigError, r"a\.csv:1: is no heading: 'ir\.mkv' is a file"),
        ("a.csv", b"infrared;visible\na.mkv;b.mkv\n", ConfigError, r"a\.csv:1: .* separate columns by commas"),
        ("a.csv", b"infrared\tvisible\na.mkv\tb.mkv\n", ConfigError, r"a\.csv:1: .* separate columns by commas"),
        ("a.csv", b"infrared,visible\na,b,c\n", ConfigError, r"a\.csv:2: has 3 values for 2 columns"),
        ("a.csv", b'infrared,visible\na,"b\n', ConfigError, "is not CSV"),
        ("a.csv", b"infrared,infrared\na,b\n", ConfigError, "twice"),
        ("a.csv", b"infrared\n\xff\xfe\n", ConfigError, "is not UTF-8"),
        ("a.jsonl", b'{"infrared": "a"}\n{"infrared"\n', ConfigError, r"a\.jsonl:2: is not JSON"),
        ("a.jsonl", b'{"infrared": "a" "visible": "b"}\n', ConfigError, r"a\.jsonl:1: .*, column 18$"),
        ("a.jsonl", b'{"infrared": "a", "infrared": "b"}\n', ConfigError, r"a\.jsonl:1: .* has 'infrared' twice"),
        ("a.jsonl", b"[1]\n", ConfigError, r"a\.jsonl:1: is not a JSON object"),
        ("a.parquet", b"", SourceError, "is empty"),
        ("a.parquet", b"PAR1 and then nothing", ConfigError, "is not a Parquet file"),
        ("a.txt", b"", UsageError, "neither a manifest"),
        ("*.nothing", None, UsageError, "add --visible"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes | None, error: type[FusepipeError], says: str
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=says):
        read_rows(str(tmp_path / name))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"output": "../x.mkv"}, "not a path inside the output folder"),
        ({"output": "a/../../x.mkv"}, "not a path inside the output folder"),
        ({"output": "/etc/x.mkv"}, "not a path inside the output folder"),
        ({"output": "s3://bucket/x.mkv"}, "not a path inside the output folder"),
        ({"output": "a\nb.mkv"}, "control character"),
        ({"output": "a\x1b[31m.mkv"}, "control character"),
        ({"output": ".batch/records/x.mkv"}, "reserved"),
        ({"output": "link/x.mkv"}, "by a symbolic link"),
        ({"output": "batch.html/"}, "is the name of a report"),
        ({"output": "x.doc"}, "output"),
        ({"output": "x.png"}, "is one image"),
        ({"output": 7}, "should be a path"),
        ({"output": f"{'x' * 242}.mkv"}, "a name of 246 bytes is too long; at most 245"),
        ({"output": f"2026/{'é' * 130}/x.mkv"}, "a name of 260 bytes is too long"),
        ({"output": None, "infrared": f"{'x' * 300}.mkv"}, "file name too long"),
        ({"output": None, "infrared": f"{'x' * 300}/a.mkv"}, "file name too long"),
        ({"infrared": "a\nb.mkv"}, "control character"),
        ({"infrared": ""}, "is missing"),
        ({"visible": "rtsp://u:geheim99@h/1"}, "is a live camera"),
        ({"fusion.modle": "mean"}, "fusion.modle: unknown key (did you mean 'model'?)"),
        ({"sink.codek": "h264"}, "sink.codek: unknown key (did you mean 'codec'?)"),
        ({"infared": "x.mkv"}, "infared: is not a column; did you mean 'infrared'?"),
        ({"Visible": "x.mkv"}, "Visible: is not a column; did you mean 'visible'?"),
        ({"colour": "x"}, "is not a column; known: infrared, visible, output"),
        ({"infrared.range": "7000 9000"}, "infrared.range: should be a list: [a, b] (got '7000 9000')"),
        ({"infrared.agc": "plateu"}, "; did you mean 'plateau'?"),
        ({"sync.max_hold": {"a": 1}}, "sync.max_hold"),
        ({"infrared.crop": [1, 2]}, "infrared.crop"),
        ({"sync.tolerance": "soon"}, "sync.tolerance"),
        ({"sink.codec": "h265"}, "sink.codec"),
        ({"sink.segment": "10s", "output": "x.mkv"}, "sink"),
        ({"modle": "mean"}, "is not a column"),
        ({"rig": "none.yaml"}, "none.yaml"),
        ({"rig_name": "roof"}, "needs a rig file"),
        ({"output": "../out/own.mkv"}, "not a path inside"),
        ({"infrared": "out/own.mkv", "output": "own.mkv"}, "is also an input, of line 2"),
        ({"infrared": "out/own/ir.mkv", "output": "own/"}, "is also an input, of line 2"),
    ],
)
def test_a_hostile_or_invalid_row_is_refused_with_its_line(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to("/tmp")
    with pytest.raises(ConfigError, match=r"clips\.csv:2: ") as refused:
        entries(tmp_path, row)
    text = str(refused.value)
    assert says in text and "\n" not in text and "\x1b" not in text and "geheim99" not in text


def test_a_loop_of_links_is_a_row_that_fails_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "loop").symlink_to("loop")
    assert [one.output for one in entries(tmp_path, {"output": "loop/a.mkv"})] == ["loop/a.mkv"]


@pytest.mark.parametrize("written", ["", " "])
def test_an_empty_name_is_no_output_folder(written: str) -> None:
    with pytest.raises(UsageError, match="--out is empty"):
        output_folder(written)


def test_outputs_of_two_rows_do_not_meet(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        entries(tmp_path, {"output": "a/"}, {"output": "./a"}, {"output": "a/b.mkv"}, {})
    assert [problem.line for problem in refused.value.problems] == [3, 4]
    assert "also the output of line 2" in str(refused.value) and "inside of the output of line" in str(refused.value)


def test_many_invalid_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 80 more invalid rows"):
        entries(tmp_path, *[{"output": "../x.mkv"}] * 100)


def test_settings_come_from_the_shared_rig_the_rows_rig_and_the_row(tmp_path: Path) -> None:
    (tmp_path / "rigs.yaml").write_text(RIGS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.yaml").write_text(RIGS.replace("15ms", "30ms"))
    shared = RigChoice(tmp_path / "rigs.yaml", "roof")
    own = {"output": "b.mkv", "rig": "sub/other.yaml", "rig_name": "roof"}
    set_here = {"output": "c.mkv", "sync.offset": "1ms", "registration.calibration": "own.yaml", "sink.codec": "h264"}
    first, second, third, fourth = entries(
        tmp_path, {"output": "a.mkv"}, own, set_here, {"rig_name": "gate", "output": "d/"}, shared=shared
    )
    assert [entry.rig.sync.offset_ns for entry in (first, second, third)] == [15_000_000, 30_000_000, 1_000_000]
    assert [entry.sink.get("codec") for entry in (first, second, third)] == ["ffv1", "ffv1", "h264"]
    calibrations = [entry.rig.registration.calibration for entry in (first, second, third)]
    assert calibrations == [str(tmp_path / name) for name in ("roof.yaml", "sub/roof.yaml", "own.yaml")]
    assert first.rig.infrared.fps == 9 and first.rig.fusion.model == "mean"
    assert first.inputs == (str(tmp_path / "ir.mkv"), str(tmp_path / "vis.mkv"))
    assert (fourth.kind, fourth.rig.infrared.fps) == ("images", None)


def test_outputs_are_named_after_the_infrared_input(tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    (tmp_path / "vis").mkdir()
    image = {"infrared": "x.png", "visible": "y.png"}
    found = entries(tmp_path, {}, {"infrared": "ir", "visible": "vis"}, image)
    assert [(entry.output, entry.kind) for entry in found] == [
        ("ir.mkv", "video"),
        ("ir", "images"),
        ("x.png", "image"),
    ]


def test_files_in_memory_are_no_devices(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path, {"infrared": "/dev/shm/ir.mkv", "infrared.fps": 9})
    assert (entry.rig.infrared.kind, entry.inputs[0]) == ("path", "/dev/shm/ir.mkv")
    with pytest.raises(ConfigError, match="is a live camera"):
        entries(tmp_path, {"infrared": "/dev/video0"})


def test_an_option_of_fuse_says_which_key_it_is() -> None:
    own = {name for option in batch.command.params for name in option.opts}
    theirs = {option.opts[-1] for option in fuse.command.params if option.opts[0].startswith("-")}
    assert theirs - own - set(batch.KEYS_OF_OPTIONS) == {"--output", "--swap", "--verbose"}
    for option in sorted(theirs & set(batch.KEYS_OF_OPTIONS)):
        ran = CliRunner().invoke(cli, ["batch", "clips.csv", "-o", "out", option, "x"])
        assert ran.exit_code == 2 and f"{option} is not an option of batch: set " in ran.stderr, ran.stderr


@pytest.mark.parametrize("key", sorted({key for key in batch.KEYS_OF_OPTIONS.values() if " " not in key}))
def test_the_key_of_an_option_is_a_column(key: str, tmp_path: Path) -> None:
    row = ManifestRow(2, {"infrared": "ir", "visible": "vis", "output": "a/", key: [[]]})
    for name in ("ir", "vis"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError) as refused:
        read_entries([row], str(tmp_path / "clips.csv"), tmp_path / "out")
    assert refused.value.problems[0].key.startswith(key) and "unknown" not in str(refused.value)
