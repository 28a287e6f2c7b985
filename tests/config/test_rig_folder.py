"""A folder of rig files: what runs, and why the rest does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepipe.config.rig_folder import RigSelection, load_rig_folder, load_rigs
from fusepipe.config.sinks import PreviewSink
from fusepipe.core.errors import ConfigError, UsageError

RIG = """\
  {name}:
    infrared: {{url: "{name}_ir.mkv"}}
    visible: {{url: "{name}_vis.mkv"}}
    sinks: [{{{sink}}}]
"""


def write(folder: Path, file: str, *rigs: tuple[str, str]) -> None:
    (folder / file).write_text("schema: 1\nrigs:\n" + "".join(RIG.format(name=n, sink=s) for n, s in rigs))


def outcome(folder: Path, selection: RigSelection) -> tuple[list[str], dict[str, str]]:
    """Names of the rigs; of the refused ones their message without the folder."""
    refused = {one.name: str(one.error).replace(f"{folder}/", "") for one in selection.refused}
    return [rig.name for rig in selection.rigs], refused


def test_the_rigs_of_all_files_run_in_natural_order(tmp_path: Path) -> None:
    write(tmp_path, "site10.yaml", ("c", "file: c.mkv"))
    write(tmp_path, "site2.yml", ("b", "file: b.mkv"), ("a", "file: a.mkv"))
    write(tmp_path, ".hidden.yaml", ("h", "file: h.mkv"))
    (tmp_path / "notes.txt").write_text("not a rig file")
    (tmp_path / "old.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")  # reading it would never end
    selection = load_rig_folder(tmp_path)
    assert outcome(tmp_path, selection) == (["b", "a", "c"], {})
    assert selection.rigs[0].base_dir == tmp_path
    assert outcome(tmp_path, load_rig_folder(tmp_path, ["c", "b"])) == (["b", "c"], {})


def test_a_mistake_concerns_its_own_rig_or_file(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", ("good", "file: good.mkv"), ("typo", "fiel: x.mkv"), ("unset", 'file: "${NOWHERE}.mkv"'))
    (tmp_path / "b.yaml").write_text("schema: 1\nrigs: [")
    (tmp_path / "c.yaml").symlink_to(tmp_path / "missing")
    write(tmp_path, "d.yaml", ("last", "file: last.mkv"))
    names, refused = outcome(tmp_path, load_rig_folder(tmp_path, environ={}))
    assert names == ["good", "last"]
    assert set(refused) == {"b.yaml", "c.yaml", "typo", "unset"}
    assert refused["typo"].startswith("a.yaml:10: rigs.typo.sinks[0]") and "fiel" in refused["typo"]
    assert "NOWHERE" in refused["unset"]
    assert refused["c.yaml"].startswith("c.yaml: there is no such file")


def test_names_are_unique_in_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", ("roof", "file: one.mkv"))
    write(tmp_path, "b.yaml", ("roof", "file: other.mkv"), ("yard", "file: yard.mkv"))
    names, refused = outcome(tmp_path, load_rig_folder(tmp_path))
    assert names == ["roof", "yard"]
    message = "is the name of a rig of a.yaml as well: give one of them another name"
    assert refused == {"roof@b.yaml": f"b.yaml:3: rigs.roof: {message}"}


def test_rigs_of_two_files_do_not_write_to_one_place(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", ("one", "file: out.mkv"), ("page", 'preview: "http://127.0.0.1:8080"'))
    write(tmp_path, "b.yaml", ("two", "file: out.mkv"), ("stream", 'rtsp: "rtsp://127.0.0.1:8080/x"'))
    names, refused = outcome(tmp_path, load_rig_folder(tmp_path))
    assert names == ["one", "page"]
    assert refused["two"].endswith("writes to the same place as a.yaml: rigs.one.sinks[0].file on line 6")
    assert set(refused) == {"two", "stream"}


def test_without_a_rig_that_can_run_all_problems_are_raised(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no rig files; they are named \*\.yaml"):
        load_rig_folder(tmp_path)
    write(tmp_path, "a.yaml", ("a", "fiel: x.mkv"))
    write(tmp_path, "b.yaml", ("b", "fiel: x.mkv"))
    with pytest.raises(ConfigError) as caught:
        load_rig_folder(tmp_path)
    assert [problem.file.rpartition("/")[2] for problem in caught.value.problems] == ["a.yaml", "b.yaml"]


def test_an_unknown_name_is_suggested(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", ("roof", "file: a.mkv"))
    with pytest.raises(ConfigError, match=r"unknown rig 'rof' \(did you mean 'roof'\?\)"):
        load_rig_folder(tmp_path, ["rof"])


def test_one_page_for_all_rigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEPIPE_PREVIEW_TOKEN", "a-long-random-token")
    own = 'preview: "http://127.0.0.1:8080", token: mine-is-long-enough'
    write(tmp_path, "a.yaml", ("own", own), ("none", "file: a.mkv"))
    rigs = load_rigs(tmp_path, preview="http://127.0.0.1:8080").rigs
    pages = {rig.name: [s.token for s in rig.sinks if isinstance(s, PreviewSink)] for rig in rigs}
    assert pages == {"own": ["mine-is-long-enough"], "none": ["a-long-random-token"]}
    assert len(load_rigs(tmp_path / "a.yaml", preview="http://127.0.0.1:9090").rigs[0].sinks) == 2
    with pytest.raises(UsageError, match="--preview: ftp://x: "):
        load_rigs(tmp_path, preview="ftp://x")
