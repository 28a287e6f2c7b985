"""How light the command line starts: help and imports load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

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


def test_importing_fusepipe_loads_nothing_heavy() -> None:
    assert loaded(f"import sys, fusepipe; print(*[n for n in {HEAVY!r} if n in sys.modules])") == [""]


def test_dir_shows_the_names_and_each_can_be_imported() -> None:
    assert {"Pipeline", "Source", "Sink", "load_fuser", "load_rig", "stream"} <= set(dir(fusepipe))
    assert [name for name in dir(fusepipe) if not hasattr(fusepipe, name)] == []
    assert set(dir(fusepipe)) == set(fusepipe.__all__)
