"""The layout: import directions, the place of each module, names and sizes."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.shared_names import SHARED_MODULES, SHARED_NAMES
from helpers.source_tree import MODULES, ROOT, TOP_FOLDERS, cyclic, imported, parsed, python_files

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


# What a package may import, besides itself; in the order of the layers. `train` is on the layer of `workflows`.
DIRECTIONS: dict[str, tuple[str, ...]] = {
    "core": (),
    "config": ("core",),
    "calibration": ("core",),
    "evaluation": ("core",),
    "pipeline": ("core", "calibration"),
    "engines": ("core",),
    "rig": ("core", "config", "calibration", "pipeline", "engines"),
    "train": ("core", "evaluation", "engines"),
    "workflows": ("core", "config", "calibration", "evaluation", "pipeline", "engines", "rig"),
    "commands": ("core", "config", "calibration", "evaluation", "engines", "rig", "workflows", "train"),
}


def test_imports_go_downwards_only() -> None:
    names = {module.split(".")[1] for module in MODULES if module.count(".")}
    assert names - {"__main__", "cli"} == set(DIRECTIONS)
    wrong = []
    for module, names in IMPORTS.items():
        layer = module.split(".")[1] if module.count(".") else ""
        if layer not in DIRECTIONS:
            continue
        allowed = {layer, *DIRECTIONS[layer]}
        used = {name.split(".")[1] for name in names if name.startswith("fusepipe.")} & {*DIRECTIONS, "cli"}
        wrong += [f"{module} imports from {other}" for other in sorted(used - allowed)]
    assert wrong == []


def test_every_allowed_direction_is_used() -> None:
    used = {
        (module.split(".")[1], name.split(".")[1])
        for module, names in IMPORTS.items()
        for name in names
        if module.count(".") and name.startswith("fusepipe.")
    }
    allowed = {(layer, other) for layer, others in DIRECTIONS.items() for other in others}
    assert sorted(allowed - used) == []


@functools.cache
def module_edges() -> set[tuple[str, str]]:
    """(importer, imported) of all modules, imports for type checking included."""
    edges = set()
    for module in MODULES:
        for name in imported(module, with_types=True):
            target = name if name in MODULES else name.rpartition(".")[0]
            if target in MODULES and target != module:
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
def test_no_members_of_a_package_import_each_other(package: str) -> None:
    """The modules and folders of a package form a graph without cycles; a folder counts as one."""
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
            ("fusepipe.engines.backends.openvino.library",),  # which keeps its telemetry off
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


# -- the place of a module


# The modules of a package that has folders: all of its folders use them, or they are what the package
# itself is about. Any other module belongs into a folder.
BESIDE_FOLDERS: dict[str, str] = {
    "fusepipe": "__main__ cli",
    "fusepipe.calibration": "aligner common_view drift gradient_field lens matrix warp",  # every calibration has them
    "fusepipe.engines": (
        "cache choose cpu_fallback fit load manifest onnx_graph sampling_grid sharing store tensor_names threads "
        "verification"
    ),  # for every backend
    "fusepipe.evaluation": "image_sets luma ranks scorer scores tno_catalogue",  # what is scored, with any metric
    "fusepipe.pipeline": "backoff graph mailbox run_limits supervisor testing",  # what connects and runs the stages
    # of RTSP and web alike
    "fusepipe.pipeline.servers": "addresses admission certificate delivery listener log_limit loop_thread "
    "shared_servers tls",
    "fusepipe.pipeline.sinks": "base null runner",  # the protocol, its thread, and a sink that writes nothing
    # the protocol, the frames of FFmpeg, and what every source does to its images
    "fusepipe.pipeline.sources": "av_input base hdr image_colour reframing streams video_planes",
    # what programs use, opening and run, and the commands whose work is a rig
    "fusepipe.rig": "api camera_settings frame_stream from_options fuse input_warnings opening run validate",
    # the loop and what every task of it uses
    "fusepipe.train": (
        "ablation checkpoint describe device distributed export figures loop ray_workers schedule tensors validation "
        "weights"
    ),
    # a workflow that is one module, and what two of them share
    "fusepipe.workflows": (
        "calibrate_board calibrate_convert calibrate_scene compare evaluate infrared_lumas list_engines probe "
        "probe_report scene_pairs scene_planes thermal_export thermal_frames thermal_read verify_engine"
    ),
}


def packages() -> list[str]:
    return sorted(module for module, path in MODULES.items() if path.name == "__init__.py")


def test_modules_next_to_folders_are_listed() -> None:
    wrong = []
    for package in packages():
        if package == "fusepipe.commands":
            continue  # whose modules are commands: see below
        if any(other.startswith(f"{package}.") for other in packages()):
            inside = {m.rpartition(".")[2] for m in MODULES if m.rpartition(".")[0] == package and m not in packages()}
            listed = set(BESIDE_FOLDERS.get(package, "").split())
            wrong += [f"{package}.{module}" for module in sorted(inside ^ listed)]
    assert wrong == [], "move it into a folder, or list it with its reason (or strike it off the list)"


# Commands whose work is in another package than `workflows`, and groups, which have commands of their own. A training
# is a session of its network, and the learned baselines, or the stages of one network, share one.
ELSEWHERE = {
    "run": "rig.run",
    "fuse": "rig.fuse",
    "validate": "rig.validate",
    "hash_password": "core.passwords",
    "train_student": "train.session.student",
    **{f"train_{name}": "train.session.baselines" for name in ("densefuse", "fusiongan", "ddcgan")},
    **{f"train_{name}": "train.session.mfe" for name in ("mfe", "stage1", "attention", "finetune")},
    **{f"train_{name}": f"train.{name}" for name in ("describe", "ablation", "figures")},
}
GROUPS = frozenset({"calibrate", "data", "thermal", "train"})


def test_a_command_its_workflow_and_its_test_have_one_name() -> None:
    """Every module of ``commands`` is a command; its workflow is a module of that name, or listed in ``ELSEWHERE``."""
    modules = {m.rpartition(".")[2]: path for m, path in MODULES.items() if m.rpartition(".")[0] == "fusepipe.commands"}
    modules.pop("console")
    defines = re.compile(r"^(def command\(|command = )", re.MULTILINE)
    assert [name for name, path in modules.items() if not defines.search(path.read_text())] == []
    assert {f"fusepipe.workflows.{name}" for name in ELSEWHERE} & MODULES.keys() == set()
    work = {f"fusepipe.{ELSEWHERE.get(name, f'workflows.{name}')}" for name in modules.keys() - GROUPS}
    assert work - MODULES.keys() == set()
    tests = {ROOT / "tests" / module.split(".")[1] / f"test_{module.rpartition('.')[2]}.py" for module in work}
    assert {path.name for path in tests if not path.exists()} == set()


def test_every_module_says_what_it_is() -> None:
    texts = {module: ast.get_docstring(parsed(path)) or "" for module, path in MODULES.items()}
    assert [module for module, text in texts.items() if len(text.split()) < 4] == [], "say it in a docstring"


def test_every_package_says_what_may_import_it() -> None:
    texts = {package: ast.get_docstring(parsed(MODULES[package])) or "" for package in packages()}
    assert [package for package, text in texts.items() if "import" not in text.lower()] == []


def test_no_module_is_in_a_folder_that_git_ignores() -> None:
    """Nor in one that ruff, pytest or setuptools pass over: such a module would not be committed, or not be checked."""
    ignored = {"build", "dist", "runs", "venv", "node_modules", "site-packages", "out", "rec"}
    assert [m for m, path in MODULES.items() if ignored & set(path.relative_to(ROOT).parts)] == []
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout")
    paths = "\0".join(path.relative_to(ROOT).as_posix() for path in MODULES.values())
    command = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    checked = subprocess.run(command, cwd=ROOT, input=paths, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (1, ""), checked.stderr  # 1: none is ignored


# -- names: what two packages call the same is the same concept


def test_a_public_name_has_one_meaning() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                found[node.name].add(package)
    shared = {name: sorted(packages) for name, packages in found.items() if len(packages) > 1}
    assert {name: where for name, where in shared.items() if name not in SHARED_NAMES} == {}, "name what it does"
    assert SHARED_NAMES.keys() - shared.keys() == set(), "strike it off the list"


def test_a_type_alias_has_one_definition() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for path in MODULES.values():
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].add("a class")
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                definition = ast.unparse(node.value)
                # constants are in capitals; a type variable is bound anew wherever it is used
                if re.match(r"[A-Z]\w*[a-z]", node.targets[0].id) and not definition.startswith("TypeVar("):
                    found[node.targets[0].id].add(definition)
    aliases = {name: sorted(texts) for name, texts in found.items() if len(texts) > 1}
    assert aliases == {}, "name what it holds"


def test_a_module_name_has_one_meaning() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for module in MODULES:
        found[module.rpartition(".")[2]].append(module)
    commands = {module.rpartition(".")[2] for module in MODULES if module.startswith("fusepipe.commands.")}
    shared = {name: where for name, where in found.items() if len(where) > 1}
    unlisted = shared.keys() - SHARED_MODULES.keys() - (commands - {"console", "data"})
    assert {name: shared[name] for name in unlisted} == {}, "name what the module holds"
    assert SHARED_MODULES.keys() - shared.keys() == set(), "strike it off the list"


# -- how large it is


def test_modules_stay_readable() -> None:
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in python_files()}
    long = {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
    assert long == {}, f"over {MAX_LINES} lines: split them by concept"


def test_functions_stay_readable() -> None:
    long = []
    for path in python_files():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                name = path.relative_to(ROOT).as_posix()
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert long == [], f"over {MAX_FUNCTION_LINES} lines: split them by step"


# -- tests use what users use


ALLOWED = frozenset(
    {
        "_asdict",  # of named tuples, as the next two
        "_fields",
        "_replace",
        "_send_rtcp_pli",  # of aiortc, which has no public way to request a key frame
    }
)


def private_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) where code reaches into what is private to another class or module of fusepipe.

    ``self._x`` of a test's own class is fine, and so is what ``ALLOWED`` names.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fusepipe"):
            for alias in node.names:
                if _is_private(alias.name):
                    yield node.lineno, f"from {node.module} import {alias.name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            for argument in node.args:
                text = argument.value if isinstance(argument, ast.Constant) else None
                if isinstance(text, str) and any(_is_private(part) for part in text.split(".")):
                    yield node.lineno, f"setattr of {text}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in ALLOWED


def test_a_private_use_is_found() -> None:
    code = """
from fusepipe.core.files import _remove
monkeypatch.setattr(box, "_take", None)
monkeypatch.setattr("fusepipe.core.files._sync", None)
source._backoff
self._mine
"""
    assert [line for line, _ in private_uses(ast.parse(code))] == [2, 3, 4, 5]


def test_no_test_uses_what_is_private() -> None:
    folders = (ROOT / "tests", ROOT / "benchmarks", ROOT / "scripts")
    files = [path for path in python_files() if any(folder in path.parents for folder in folders)]
    found = [f"{p.relative_to(ROOT)}:{line}: {text}" for p in files for line, text in private_uses(parsed(p))]
    assert found == []


# -- the linter's own rule


@pytest.mark.parametrize("folder", TOP_FOLDERS)
def test_the_folders_cannot_be_imported_by_their_bare_names(folder: str, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if ruff is None:
        pytest.skip("ruff is not installed: pip install 'fusepipe[dev]'")
    file = tmp_path / "wrong.py"
    file.write_text(f"import {folder}\n\n{folder}.run()\n")
    command = [ruff, "check", "--config", str(ROOT / "pyproject.toml"), "--no-cache", "--select", "TID251", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 1 and "TID251" in checked.stdout, checked.stdout + checked.stderr
