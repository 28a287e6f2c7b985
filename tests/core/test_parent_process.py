"""A process that ends with the one that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import wait_for

CHILD = "from fusepipe.core.parent_process import end_with_parent; end_with_parent({}); print('up', flush=True); {}"
SLEEP = "import time; time.sleep(100)"
PARENT = """\
import os, subprocess, sys
program = sys.argv[1].replace("PARENT", str(os.getpid()))
child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


def state_of(process: int) -> str:
    """Of a process as in ``/proc``; Z is one that has ended, "" one of which nothing is left."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize(
    ("given", "then"), [("PARENT", SLEEP), ("PARENT, signal.SIGKILL", f"signal.signal(15, signal.SIG_IGN); {SLEEP}")]
)
def test_a_process_ends_when_its_parent_is_killed(given: str, then: str) -> None:
    words = [sys.executable, "-c", PARENT, f"import signal; {CHILD.format(given, then)}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert state_of(child) not in ("", "Z")
        parent.kill()
        wait_for(lambda: state_of(child) in ("", "Z"), 60)


@pytest.mark.serial
def test_a_parent_that_has_ended_before_is_noticed() -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD.format(1, SLEEP)], timeout=60, check=False)
    assert ended.returncode == -15
