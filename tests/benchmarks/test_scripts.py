"""Scripts that no other test runs: the names that they import from fusepipe exist."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.source_tree import MODULES, python_files

SCRIPTS = [path for path in python_files() if not path.suffix]


def exists(module: str, name: str) -> bool:
    """Whether ``from module import name`` works; skips where a package that the module needs is not installed."""
    if f"{module}.{name}" in MODULES:
        return True
    if module not in MODULES:
        return False
    try:
        return hasattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or find_spec(error.name.split(".")[0]) is not None:
            raise
        pytest.skip(f"{error.name} is not installed")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_what_exists(script: Path) -> None:
    imports = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fusepipe")
        for alias in node.names
    ]
    assert [f"{module}: {name}" for module, name in imports if not exists(module, name)] == []
