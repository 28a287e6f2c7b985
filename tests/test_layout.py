"""The house: what the wheel holds, who may import whom, and how light ``--help`` is."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fusepipe
from fusepipe.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
HOUSES = ("calibration", "engines", "evaluation", "pipeline", "train")  # folders at the top, imported as fusepipe.*
MAX_LINES = 450
HEAVY = ("numpy", "torch", "tensorrt", "tensorrt_rtx", "pycuda", "cuda", "openvino", "cv2", "av", "pydantic", "rich")

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[str]:
    """The files of the project, relative to its root: as git says, or all that is no build output."""
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
    for house in ("fusepipe", *HOUSES):
        for path in sorted((ROOT / house).rglob("*.py")):
            if any(part.is_symlink() for part in path.parents if part != ROOT and ROOT in part.parents):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if house == "fusepipe" else ("fusepipe", *parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(sources())


# -- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel that is built from a copy, so that the working tree stays clean."""
    for needed in ("build", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install 'fusepipe[test]'")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=110)
    if built.returncode:
        if "Missing dependencies" in built.stdout + built.stderr:
            pytest.skip(f"no setuptools here that is new enough to build: {built.stdout.strip()[-200:]}")
        pytest.fail(f"the wheel cannot be built:\n{built.stdout[-2000:]}\n{built.stderr[-2000:]}")
    (file,) = out.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names)), "a file is in the wheel twice"
    return set(names)


def test_every_module_is_in_the_wheel(wheel: set[str]) -> None:
    wanted = set()
    for path in MODULES.values():
        name = path.relative_to(ROOT).as_posix()
        wanted.add(name if name.startswith("fusepipe/") else f"fusepipe/{name}")
    assert wanted - wheel == set()


def test_the_package_data_are_in_the_wheel(wheel: set[str]) -> None:
    folders = ("fusepipe", *HOUSES)
    data = {n for n in tracked() if n.split("/")[0] in folders and not n.endswith((".py", ".md"))}
    files = {name for name in data if not (ROOT / name).is_symlink()}
    assert {n if n.startswith("fusepipe/") else f"fusepipe/{n}" for n in files} - wheel == set()
    assert any(name.startswith("fusepipe/engines/weights/") for name in wheel), "the network ships with the program"
    assert "fusepipe/py.typed" in wheel
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_nothing_else_is_in_the_wheel(wheel: set[str]) -> None:
    strangers = {n for n in wheel if not n.startswith("fusepipe/") and ".dist-info/" not in n}
    assert strangers == set()
    assert not [n for n in wheel if re.search(r"(^|/)(tests?/|test_[^/]*\.py$|conftest\.py$|__pycache__/)", n)]


def test_every_folder_with_an_init_is_a_package_of_the_wheel() -> None:
    settings = PROJECT["tool"]["setuptools"]
    there = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert there == set(settings["packages"])
    for house in HOUSES:
        assert settings["package-dir"][f"fusepipe.{house}"] == house
    loose = {path.parent for path in MODULES.values()} - {p.parent for p in MODULES.values() if p.name == "__init__.py"}
    assert loose == set(), "folders with modules and no __init__.py are absent from the wheel"


@pytest.mark.parametrize("house", HOUSES)
def test_the_links_for_editors_are_relative(house: str) -> None:
    link = ROOT / "fusepipe" / house
    assert link.is_symlink() and str(link.readlink()) == f"../{house}"


def test_the_versions_are_equal() -> None:
    assert PROJECT["project"]["version"] == fusepipe.__version__


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in [r for group in groups for r in group if not r.startswith("fusepipe[")]:
        if re.split(r"[><=]", requirement)[0] in ("pytest", "ruff", "mypy"):
            continue  # their names say it
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert re.search(r'"[^"#]*"\]?,?\s*#\s\w', line), f"{requirement}: say why it is needed, in a comment"


# -- imports


def imported(path: Path, module: str, *, with_types: bool = False) -> set[str]:
    """All modules that a file imports, at its top or in a function; with those only for type checking if asked."""
    found: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text())]
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
    return found


IMPORTS = {module: imported(path, module) for module, path in MODULES.items()}


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


def module_edges(*, with_types: bool = True) -> set[tuple[str, str]]:
    """(importer, imported) of all modules, imports for type checking included."""
    edges = set()
    for module, path in MODULES.items():
        for name in imported(path, module, with_types=with_types):
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


def test_modules_stay_readable() -> None:
    long = {m: n for m, path in MODULES.items() if (n := len(path.read_text().splitlines())) > MAX_LINES}
    assert long == {}, f"over {MAX_LINES} lines: split them by concept"


# -- how light the command line is

_LOADED = """
import contextlib, io, runpy, sys
sys.argv = ["fusepipe", *{args!r}]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    {start}
assert "Usage: fusepipe" in out.getvalue(), out.getvalue()
print(*[name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize(
    "start", ["from fusepipe.cli import main; main()", "runpy.run_module('fusepipe', run_name='__main__')"]
)
def test_help_loads_nothing_heavy(start: str, command: str) -> None:
    args = [command, "--help"] if command else ["--help"]
    code = _LOADED.format(args=args, start=start, heavy=HEAVY)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []


def test_importing_fusepipe_loads_nothing_heavy() -> None:
    code = f"import sys, fusepipe; print(*[n for n in {HEAVY!r} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    assert ran.stdout.split() == []


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
