"""The GPU for tests marked ``gpu``, or a skip with the reason."""

from __future__ import annotations

import os

import pytest

from fusepipe.engines.backends.cuda.api import Gpu
from fusepipe.engines.choose import gpu_here, package_installed


def require_gpu() -> tuple[str, Gpu]:
    """(backend, GPU) of this machine. Without them the test skips; with ``FUSEPIPE_REQUIRE_GPU=1`` it fails."""
    gpu, why = gpu_here()
    backend = next((name for name in ("tensorrt", "tensorrt-rtx") if package_installed(name)), "")
    if gpu is not None and backend:
        return backend, gpu
    missing = why if gpu is None else "neither tensorrt nor tensorrt_rtx is installed"
    if os.environ.get("FUSEPIPE_REQUIRE_GPU") == "1":
        pytest.fail(f"FUSEPIPE_REQUIRE_GPU=1, but {missing}")
    pytest.skip(f"no GPU: {missing}")
