"""Worker processes of a batch on a machine that has no room for them."""

from __future__ import annotations

import subprocess
import sys

FEW_FILES = """
import multiprocessing, os, resource
from fusepipe.core.errors import FusepipeError
from fusepipe.workflows.batch.local_pool import LocalPool

used = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 6, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    LocalPool(8, 60.0)
except FusepipeError as error:
    print(error, multiprocessing.active_children())
"""


def test_a_worker_that_cannot_be_started_is_one_line_and_leaves_no_other() -> None:
    ran = subprocess.run([sys.executable, "-c", FEW_FILES], capture_output=True, text=True, timeout=120, check=False)
    assert ran.stdout == "a worker cannot be started: Too many open files; try fewer --workers []\n", ran.stderr
