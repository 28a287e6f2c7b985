"""The project's files and modules, for tests of the layout."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOP_FOLDERS = (
    "calibration",
    "engines",
    "evaluation",
    "pipeline",
    "train",
)  # imported as fusepipe.*
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[str]:
    """The project's files relative to its root: those git knows, else all except build output."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return sorted(name for name in listed.split("\0") if name and (ROOT / name).exists())
    names = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file() and not path.is_symlink())
    hidden = ("__pycache__", "build", "dist")
    return sorted(
        name.as_posix() for name in names if not any(p in hidden or p.startswith(".") for p in name.parts[:-1])
    )


def sources() -> Iterator[tuple[str, Path]]:
    """(module name, file) of every module of the packages; the links are not followed."""
    for folder in ("fusepipe", *TOP_FOLDERS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(part.is_symlink() for part in path.parents if part != ROOT and ROOT in part.parents):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "fusepipe" else ("fusepipe", *parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def python_files() -> list[Path]:
    """Every Python file of the project: packages, tests, benchmarks and scripts, with and without a suffix."""
    found = []
    for name in tracked():
        path = ROOT / name
        if name.endswith(".py") or (
            name.startswith(("benchmarks/", "scripts/")) and re.match(rb"#!.*python", path.read_bytes())
        ):
            found.append(path)
    return found


MODULES = dict(sources())


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(module: str, *, with_types: bool = False) -> frozenset[str]:
    """All modules that a module imports, at the top or in a function; on request also for type checking only."""
    found: set[str] = set()
    stack: list[ast.AST] = [parsed(MODULES[module])]
    while stack:
        node = stack.pop()
        if not with_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write imports in full"
            # a name may be a module (from fusepipe.pipeline import levels)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        stack.extend(ast.iter_child_nodes(node))
    return frozenset(found)


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
