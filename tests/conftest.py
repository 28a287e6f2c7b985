"""Fixtures that several test modules share."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.cameras import CAMERA_ELEMENTS, MISSING, RtspCamera, gst_rtsp_server


@pytest.fixture(scope="session", autouse=True)
def usual_signals() -> None:
    """Restores SIGHUP and SIGINT, which child processes inherit ignored under nohup and in background jobs."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of image data (``tno/``, ``roadscene/``, …); skips with a reason where it is absent.

    ``FUSEPIPE_DATA`` overrides the folder beside the project.
    """
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("FUSEPIPE_DATA") or default)
    if not (folder / "tno" / "pairs" / "ir").is_dir():
        pytest.skip(f"no image data at {folder} (set FUSEPIPE_DATA to a folder that holds tno/pairs)")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The ffmpeg program, an independent peer; skips with a reason where it is not installed."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed (apt-get install ffmpeg)")
    return program


@pytest.fixture
def rtsp_camera() -> Iterator[Callable[..., RtspCamera]]:
    """Makes RTSP cameras; skips with a reason where gst-rtsp-server and its bindings are not installed."""
    if not gst_rtsp_server(CAMERA_ELEMENTS):
        pytest.skip(MISSING)
    cameras: list[RtspCamera] = []

    def make(**options: Any) -> RtspCamera:
        cameras.append(RtspCamera(**options))
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.kill()


@pytest.fixture
def engine_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty engine cache; engines are verified without PyTorch, which has a test of its own."""
    from helpers.engine_requests import without_torch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("fusepipe.engines.builder.verify.find_spec", without_torch)
    return tmp_path / "cache" / "fusepipe" / "engines"


# -- tiers: see CONTRIBUTING.md

TESTS = Path(__file__).parent
UNIT_FOLDERS = frozenset({"calibration", "config", "core", "engines", "evaluation", "pipeline"})
PARALLEL_FOLDERS = frozenset({"train"})  # one thread a test
TALKS = frozenset({"aiohttp", "asyncio", "faults", "peers", "socket"})
"""A test module that imports one of these, itself or through a helper, talks to cameras, servers or browsers, whose
time-outs another test beside it could exceed."""
STARTS = TALKS | {"subprocess"}
"""The same for modules that start processes of any kind."""


@functools.cache
def imports_any(file: Path, names: frozenset[str]) -> bool:
    """Whether a test module imports one of the names, itself or through ``tests/helpers``."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        for first, *rest in (module.split(".") for module in modules):
            if first in names or (first == "helpers" and rest and imports_any(TESTS / f"helpers/{rest[0]}.py", names)):
                return True
    return False


def tiers(item: pytest.Item) -> Iterator[str]:
    """``serial``: not beside another test, as it talks to servers. ``unit``: fast, and starts no processes."""
    folder = item.path.relative_to(TESTS).parts[0]
    if item.get_closest_marker("gpu") or (folder not in PARALLEL_FOLDERS and imports_any(item.path, TALKS)):
        yield "serial"
        return
    slow = any(item.get_closest_marker(mark) for mark in ("slow", "long"))
    if folder in UNIT_FOLDERS and not slow and not imports_any(item.path, STARTS):
        yield "unit"


@pytest.hookimpl(tryfirst=True)  # before pytest selects by -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks unit and serial tests, and deselects long ones unless -m names them."""
    for item in items:
        for mark in tiers(item):
            item.add_marker(mark)
        if TESTS / "train" in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))  # whole trainings, beside others on a busy machine
    if "long" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("long")]
        if long:
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if not item.get_closest_marker("long")]
