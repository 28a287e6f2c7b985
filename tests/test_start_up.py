"""How light the command line starts: help, imports and mistyped paths load nothing heavy, images no FFmpeg."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.source_tree import ROOT

import fusepipe
from fusepipe.cli import COMMANDS

HEAVY = (
    "numpy",
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "cuda",
    "openvino",
    "cv2",
    "av",
    "pydantic",
    "rich",
    "jinja2",
)

# one process for all commands: what one of them loads is printed behind its name
_LOADED = """
import contextlib, io, runpy, sys
seen = set()
for command in {commands!r}:
    sys.argv = ["fusepipe", *command, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        {start}
    assert "Usage: fusepipe" in out.getvalue(), (command, out.getvalue())
    heavy = {{name for name in {heavy!r} if name in sys.modules}} - seen
    seen |= heavy
    print(*command, *sorted(heavy), sep=",")
"""


def loaded(code: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.parametrize(
    "start", ["from fusepipe.cli import main; main()", "runpy.run_module('fusepipe', run_name='__main__')"]
)
def test_help_loads_nothing_heavy(start: str) -> None:
    commands = [[], *([name] for name in COMMANDS)]
    assert loaded(_LOADED.format(commands=commands, start=start, heavy=HEAVY)) == ["", *COMMANDS]


def of_a_command(arguments: list[str], exit_code: int, *also: str) -> str:
    """The modules of ``HEAVY`` and ``also`` that a command has loaded when it ends."""
    ends = f"except SystemExit as end: assert end.code == {exit_code}, end.code"
    shown = f"print(*[name for name in {(*HEAVY, *also)!r} if name in sys.modules])"
    return loaded(f"import sys\nfrom fusepipe.cli import main\ntry: main({arguments!r})\n{ends}\n{shown}")[-1]


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [(["fuse", "no.png", "such.png", "-o", "file.png"], 3), (["run", "--rig", "no-such-file.yaml"], 2)],
)
def test_a_mistyped_path_is_reported_before_anything_heavy_is_loaded(arguments: list[str], exit_code: int) -> None:
    assert of_a_command(arguments, exit_code) == ""


def test_fusing_two_images_loads_neither_ffmpeg_nor_servers(tmp_path: Path) -> None:
    for name in ("i.png", "v.png"):
        assert cv2.imwrite(str(tmp_path / name), np.zeros((32, 32), np.uint8))
    arguments = ["fuse", str(tmp_path / "i.png"), str(tmp_path / "v.png"), "-o", str(tmp_path / "o.png")]
    servers = ("ssl", "aiortc", "fusepipe.pipeline.servers.certificate", "fusepipe.pipeline.sources.live.camera")
    assert of_a_command([*arguments, "--model", "mean"], 0, *servers) == "numpy cv2 pydantic"
    assert (tmp_path / "o.png").exists()


def test_importing_fusepipe_loads_nothing_heavy() -> None:
    assert loaded(f"import sys, fusepipe; print(*[n for n in {HEAVY!r} if n in sys.modules])") == [""]


def test_dir_shows_the_names_and_each_can_be_imported() -> None:
    assert {"Pipeline", "Source", "Sink", "load_fuser", "load_rig", "stream"} <= set(dir(fusepipe))
    assert [name for name in dir(fusepipe) if not hasattr(fusepipe, name)] == []
    assert set(dir(fusepipe)) == set(fusepipe.__all__)
