"""What a built wheel holds, and that pyproject.toml agrees with the folders."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers.source_tree import MODULES, PROJECT, ROOT, TOP_FOLDERS, tracked

import fusepipe


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
    assert "would be ignored" not in built.stdout + built.stderr, "a folder of data is not listed as a package"
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
    folders = ("fusepipe", *TOP_FOLDERS)
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
    data = {name for name in settings["package-data"] if name not in there}
    assert there | data == set(settings["packages"])
    for folder in TOP_FOLDERS:
        assert settings["package-dir"][f"fusepipe.{folder}"] == folder
    loose = {path.parent for path in MODULES.values()} - {p.parent for p in MODULES.values() if p.name == "__init__.py"}
    assert loose == set(), "folders with modules and no __init__.py are absent from the wheel"


@pytest.mark.parametrize("folder", TOP_FOLDERS)
def test_the_links_for_editors_are_relative(folder: str) -> None:
    link = ROOT / "fusepipe" / folder
    assert link.is_symlink() and str(link.readlink()) == f"../{folder}"


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
