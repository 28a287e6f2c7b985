"""Shell completion by click's protocol, as bash calls it: commands, options, models, backends, rigs of the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.source_tree import ROOT

from fusepipe.cli import COMMANDS
from fusepipe.core.models import BACKENDS, MODELS, NETWORKS

RIGS = """
schema: 1
defaults: &all
  fusion: {model: mean}
rigs:
  roof: {infrared: {url: a}, visible: {url: b}}
  roof-night: {infrared: {url: a}, visible: {url: b}}
  yard: {infrared: {url: a}, visible: {url: b}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rigs.yaml").write_text(RIGS)
    (tmp_path / "other.yaml").write_text("rigs: {harbour: {}, hangar: {}}\n")
    (tmp_path / "broken.yaml").write_text("rigs: [\n")
    return tmp_path


def completed(line: str, folder: Path) -> list[str]:
    """What bash would offer for the last word of this line, which may be empty."""
    words = line.split(" ")
    protocol = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_FUSEPIPE_COMPLETE": "bash_complete"}
    ran = subprocess.run(
        [sys.executable, "-c", "from fusepipe.cli import main; main([])"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **protocol},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr == "", ran.stderr
    return [entry.partition(",")[2] for entry in ran.stdout.splitlines() if entry]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fusepipe ", list(COMMANDS)),
        ("fusepipe ver", ["verify-engine"]),
        ("fusepipe calibrate ", ["board", "check", "convert", "scene"]),
        ("fusepipe fuse --model ", list(MODELS)),
        ("fusepipe fuse --model str", ["stream", "stream-hq"]),
        ("fusepipe bench --backend tens", ["tensorrt", "tensorrt-rtx"]),
        ("fusepipe fuse --backend ", ["auto", *BACKENDS]),
        ("fusepipe fuse --precision f", ["fp32", "fp16"]),
        ("fusepipe build-engine --model ", [name for name in MODELS if name in NETWORKS]),
        ("fusepipe build-engine --backend ", ["auto", "openvino", "tensorrt", "tensorrt-rtx"]),
        ("fusepipe compare --models stream,me", ["stream,mean", *(["stream,mfe"] if "mfe" in MODELS else [])][:1]),
        ("fusepipe run --name ", ["roof", "roof-night", "yard"]),
        ("fusepipe run --name roof --name y", ["yard"]),
        ("fusepipe run --rig other.yaml --name ha", ["harbour", "hangar"]),
        ("fusepipe validate other.yaml --name ", ["harbour", "hangar"]),
        ("fusepipe run --rig broken.yaml --name ", []),
        ("fusepipe run --rig absent.yaml --name ", []),
        ("fusepipe fuse --swa", ["--swap"]),
        ("fusepipe nonsense ", list(COMMANDS)),
    ],
)
def test_names_are_completed(line: str, offered: list[str], folder: Path) -> None:
    assert completed(line, folder) == offered


def test_completion_loads_nothing_heavy(folder: Path) -> None:
    heavy = ("numpy", "torch", "cv2", "av", "pydantic", "rich", "openvino", "tensorrt")
    code = f"""
import contextlib, sys
from fusepipe.cli import main
with contextlib.suppress(SystemExit):
    main([])
print(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    for line in ("fusepipe run --name ", "fusepipe fuse --model ", "fusepipe "):
        protocol = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_FUSEPIPE_COMPLETE": "bash_complete"}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **protocol}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
        assert ran.stdout and ran.stderr.strip() == "", (line, ran.stderr)


def test_bash_completes_with_the_line_of_the_documentation(folder: Path) -> None:
    """In a real bash: the documented line, then the function that it has installed, as the Tab key calls it."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    documented = 'eval "$(_FUSEPIPE_COMPLETE=bash_source fusepipe)"'
    assert documented in (ROOT / "docs" / "commands.md").read_text()
    program = folder / "fusepipe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fusepipe "$@"\n')
    program.chmod(0o755)
    script = f"""
{documented}
COMP_WORDS=(fusepipe run --name roof) COMP_CWORD=3
$(complete -p fusepipe | sed 's/.*-F \\([^ ]*\\) .*/\\1/') fusepipe roof --name
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run([bash, "-c", script], env=environment, cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["roof", "roof-night"], ran.stderr
