"""The layout: who may import whom, what lies where, and how large it may be."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.source_tree import HOUSES, MODULES, ROOT, imported

MAX_LINES = 400
MAX_FUNCTION_LINES = 60

# -- imports

IMPORTS = {module: imported(module, with_types=True) for module in MODULES}


def importers(*packages: str) -> set[str]:
    """The modules that import one of these packages, or something in it."""
    return {m for m, names in IMPORTS.items() if any(under(name, *packages) for name in names)}


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def outside(modules: set[str], *allowed: str) -> set[str]:
    return {module for module in modules if not under(module, *allowed)}


# Each room may import those above it in this list, and itself; `train` stands beside `workflows`.
DIRECTIONS: dict[str, tuple[str, ...]] = {
    "core": (),
    "config": ("core",),
    "calibration": ("core", "config"),
    "evaluation": ("core",),
    "pipeline": ("core", "calibration"),
    "engines": ("core",),
    "rig": ("core", "config", "calibration", "evaluation", "pipeline", "engines"),
    "train": ("core", "config", "evaluation", "engines"),
    "workflows": ("core", "config", "calibration", "evaluation", "pipeline", "engines", "rig"),
    "commands": ("core", "config", "calibration", "evaluation", "pipeline", "engines", "rig", "workflows", "train"),
}


def test_imports_go_downwards_only() -> None:
    rooms = {module.split(".")[1] for module in MODULES if module.count(".")}
    assert rooms - {"__main__", "cli"} == set(DIRECTIONS)
    wrong = []
    for module, names in IMPORTS.items():
        room = module.split(".")[1] if module.count(".") else ""
        if room not in DIRECTIONS:
            continue
        allowed = {room, *DIRECTIONS[room]}
        used = {name.split(".")[1] for name in names if name.startswith("fusepipe.")} & {*DIRECTIONS, "cli"}
        wrong += [f"{module} imports from {other}" for other in sorted(used - allowed)]
    assert wrong == []


def cyclic(edges: dict[str, set[str]]) -> list[str]:
    """A cycle of this graph as a list of its nodes, or an empty list. Depth first, each node once."""
    state: dict[str, bool] = {}  # True: on the current path; False: finished
    path: list[str] = []

    def visit(node: str) -> list[str]:
        state[node] = True
        path.append(node)
        for other in sorted(edges.get(node, ())):
            if state.get(other):
                return [*path[path.index(other) :], other]
            if other not in state and (found := visit(other)):
                return found
        state[node] = False
        path.pop()
        return []

    return next((found for node in sorted(edges) if node not in state and (found := visit(node))), [])


@functools.cache
def module_edges() -> set[tuple[str, str]]:
    """(importer, imported) of all modules, imports for type checking included."""
    edges = set()
    for module in MODULES:
        for name in imported(module, with_types=True):
            target = name if name in MODULES else name.rpartition(".")[0]
            if target in MODULES and target != module and target != "fusepipe":
                edges.add((module, target))
    return edges


def test_a_cycle_is_found() -> None:
    assert cyclic({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cyclic({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_modules_import_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for importer, target in module_edges():
        edges.setdefault(importer, set()).add(target)
    assert cyclic(edges) == []


@pytest.mark.parametrize("package", sorted(m for m, path in MODULES.items() if path.name == "__init__.py"))
def test_no_rooms_of_a_package_import_each_other(package: str) -> None:
    """What lies in a package, its modules and folders, must form a graph without cycles: a folder counts as one."""
    edges: dict[str, set[str]] = {}
    for importer, target in module_edges():
        if under(importer, package) and under(target, package) and package not in (importer, target):
            one, other = (name.removeprefix(f"{package}.").split(".")[0] for name in (importer, target))
            if one != other:
                edges.setdefault(one, set()).add(other)
    assert cyclic(edges) == []


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        (("torch", "torchvision"), ("fusepipe.train", "fusepipe.engines.backends.torch")),
        (("onnx", "onnxscript", "safetensors", "tensorboard"), ("fusepipe.train", "fusepipe.engines")),
        (
            ("openvino",),
            (
                "fusepipe.engines.backends.openvino",
                "fusepipe.engines.backends.openvino_graph",
                "fusepipe.workflows.doctor.diagnosis",
            ),
        ),
        (("tensorrt", "tensorrt_rtx", "pycuda", "cuda"), ("fusepipe.engines",)),
        (
            ("av",),
            (
                "fusepipe.pipeline.sources",
                "fusepipe.pipeline.encoding",
                "fusepipe.pipeline.sinks",
                "fusepipe.workflows.doctor.diagnosis",
                "fusepipe.pipeline.servers.web.peer",
            ),
        ),
        (("aiortc",), ("fusepipe.pipeline.servers.web.peer",)),
    ],
)
def test_heavy_packages_are_imported_in_few_places(packages: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    assert outside(importers(*packages), *allowed) == set()


# -- the linter's own rule


@pytest.mark.parametrize("house", HOUSES)
def test_the_folders_cannot_be_imported_by_their_bare_names(house: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if ruff is None:
        pytest.skip("ruff is not installed: pip install 'fusepipe[dev]'")
    file = tmp_path / "wrong.py"
    file.write_text(f"import {house}\n\n{house}.run()\n")
    command = [ruff, "check", "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--select", "TID251", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 1 and "TID251" in checked.stdout, checked.stdout + checked.stderr
