"""The documentation is correct: its commands and snippets run, its links and paths resolve.

Console lines that start with ``fusepipe`` are run page by page, in order, in a folder that has the
files they use: ``rigs.yaml``, ``docs/rigs``, ``ir/`` and ``vis/``, two videos and a calibration file.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from fusepipe.cli import COMMANDS, cli
from fusepipe.core.frames import Band
from fusepipe.core.units import H
from fusepipe.pipeline.sources.synthetic.options import parse_options
from fusepipe.pipeline.sources.synthetic.source import SyntheticSource
from fusepipe.workflows.bench.clips import render_clips

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# their links are checked; their commands need data and hours
CARDS = sorted([ROOT / "train" / "README.md", *(ROOT / "engines" / "weights").glob("*.md")])

CALIBRATION = """\
fusepipe_calibration: 1
kind: homography
infrared: {size: [80, 60]}
visible: {size: [160, 120]}
matrix:
- [1.82, 0.03, 6.0]
- [-0.02, 1.84, 4.0]
- [2.0e-05, 1.0e-05, 1.0]
"""


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The text of the fenced blocks of these languages."""
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if language in languages:
            yield text


def commands(page: Path) -> list[str]:
    """The command lines of console and bash blocks, without prompt; those joined by && one by one."""
    lines = [line.removeprefix("$ ").strip() for text in blocks(page, "console", "bash") for line in text.splitlines()]
    return [part.strip() for line in lines if line and not line.startswith("#") for part in line.split("&&")]


def program(command: str) -> str:
    """The first word that is not an assignment of an environment variable."""
    return next(word for word in shlex.split(command) if not re.match(r"\w+=", word))


def needs_more(command: str) -> bool:
    """Training needs a data set and hours: only its options are checked."""
    return shlex.split(command)[:2] == ["fusepipe", "train"]


def runnable(page: Path) -> list[str]:
    return [line for line in commands(page) if program(line) == "fusepipe" and not needs_more(line)]


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages use."""
    folder = tmp_path_factory.mktemp("docs")
    # the demo, a tenth as long
    (folder / "rigs.yaml").write_text((ROOT / "rigs.yaml").read_text().replace("duration=10s", "duration=1s"))
    shutil.copytree(ROOT / "docs" / "rigs", folder / "docs" / "rigs")
    (folder / "roof.calibration.yaml").write_text(CALIBRATION)
    render_clips(folder, (160, 120), (80, 60), 12, 60.0)
    for name, band in (("ir", Band.INFRARED), ("vis", Band.VISIBLE)):
        write_images(folder / name, band)
        shutil.copytree(folder / name, folder / "tno" / "sequences" / "nato_camp" / name)
    return folder


def write_images(folder: Path, band: Band) -> None:
    """Three grey PNG images of the synthetic street."""
    folder.mkdir()
    source = SyntheticSource("synthetic://street?size=80x60&duration=120ms", band)
    source.open()
    for frame in source.frames(threading.Event()):
        assert cv2.imwrite(str(folder / f"{frame.index + 1:04}.png"), frame.luma.pixels)
    source.close()


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the template, and an environment in which ``fusepipe`` is this code and ``~`` is the copy."""
    folder, tools = tmp_path / "work", tmp_path / "bin"
    shutil.copytree(template, folder)
    tools.mkdir()
    shim = tools / "fusepipe"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fusepipe "$@"\n')
    shim.chmod(0o755)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    return folder, {**os.environ, "PATH": path, "HOME": str(folder), "XDG_CACHE_HOME": cache}


def first_failure(page: Path, workspace: tuple[Path, dict[str, str]]) -> str:
    """Runs the commands of a page in order up to the first that fails: its line and output; empty if all succeed."""
    folder, environment = workspace
    for line in runnable(page):
        ran = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=180
        )
        if ran.returncode != 0:
            return f"{line}\n{ran.stdout[-1500:]}\n{ran.stderr[-1500:]}"
    return ""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=relative)
def test_the_commands_of_a_page_run(page: Path, workspace: tuple[Path, dict[str, str]]) -> None:
    assert first_failure(page, workspace) == ""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_first_guide_runs_in_the_folder_where_the_readme_was_followed(
    workspace: tuple[Path, dict[str, str]],
) -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "getting-started.md"):
        assert first_failure(page, workspace) == ""


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=relative)
def test_the_python_of_a_page_runs(page: Path, workspace: tuple[Path, dict[str, str]]) -> None:
    folder, environment = workspace
    (folder / "roof.calibration.yaml").unlink()  # which a snippet creates
    for snippet in blocks(page, "python"):
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", snippet],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert ran.returncode == 0, f"{snippet}\n{ran.stderr[-1500:]}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_console_lines_that_are_not_run_are_valid(page: Path) -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for line in commands(page):
        words = shlex.split(line)
        if needs_more(line):
            group = CliRunner().invoke(cli, [*words[1:3], "--help"]).output
            unknown = [word for word in words if word.startswith("--") and word not in group]
            assert unknown == [], line
        elif program(line) == "pip":
            assert words[:2] == ["pip", "install"], line
            assert set(re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*?)\]", line)))) <= extras, line
        elif program(line) not in ("fusepipe", "pytest"):
            assert (ROOT / program(line)).is_file(), f"{line}: neither run nor checked"


def anchor(title: str) -> str:
    """The fragment that a heading gets on common hosts."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=relative)
def test_the_links_of_a_page_resolve(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            broken.append(target)
        elif fragment and file.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            if fragment not in {anchor(title) for title in titles}:
                broken.append(target)
    assert broken == []


def paths_named(text: str) -> set[str]:
    """Paths of the project between backticks."""
    return set(re.findall(r"`([\w.-]+/[\w./*-]*)`", text))


PAGES_ON_THE_CODE = [
    page for page in PAGES if page.name in ("CONTRIBUTING.md", "architecture.md") or page.parent.name == "measurements"
]


@pytest.mark.parametrize("page", PAGES_ON_THE_CODE, ids=relative)
def test_the_paths_of_a_page_exist(page: Path) -> None:
    named = paths_named(page.read_text())
    for line in commands(page):
        named |= {word for word in shlex.split(line) if program(line) == "pytest" and "/" in word}
    assert [path for path in sorted(named) if not list(ROOT.glob(path))] == []


def import_directions() -> dict[str, set[str]]:
    """``DIRECTIONS`` of tests/test_layout.py: package to the packages that it may import."""
    module = ast.parse((ROOT / "tests" / "test_layout.py").read_text())
    values = [n.value for n in module.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "DIRECTIONS"]
    assert values[0] is not None
    return {package: set(imports) for package, imports in ast.literal_eval(values[0]).items()}


def test_the_table_of_folders_has_the_import_directions() -> None:
    directions, page = import_directions(), ROOT / "docs" / "architecture.md"
    stated: dict[str, set[str]] = {}
    for path, imports in re.findall(r"^\| `([\w/]+)/` \|[^|]*\| ([^|]*) \|$", page.read_text(), re.MULTILINE):
        words = {
            "nothing else of the project": set[str](),
            "all of the above": set(stated),
            "everything": set(directions) - {path.rpartition("/")[2]},
        }
        stated[path.rpartition("/")[2]] = words[imports] if imports in words else set(imports.split(", "))
    assert {package: stated.get(package) for package in directions} == directions


def test_contributing_says_where_to_edit_for_ten_changes() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where to edit")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    assert all(paths_named(files) for _, files in rows)


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_is() -> None:
    found, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text())
            queue += [(page.parent / target).resolve() for target in targets if "://" not in target]
    assert set(PAGES) - found == set()


def test_measurements_say_what_was_measured_how_on_what_and_when() -> None:
    for page in (ROOT / "docs" / "measurements").glob("*.md"):
        if page.name in ("README.md", "networks.md"):
            continue  # an index, and one of the model cards
        text = page.read_text()
        assert re.search(r"^```(console|sh)$|`tests/|`scripts/", text, re.MULTILINE), f"{page.name}: the command"
        assert "**On.**" in text or "## Hardware" in text, f"{page.name}: the machine"
        assert "**When.**" in text, f"{page.name}: the date"


def test_every_command_has_its_section() -> None:
    titles = re.findall(r"^## fusepipe ([\w-]+)$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert titles == list(COMMANDS)


def test_the_readme_has_the_two_commands_on_one_line_each() -> None:
    lines = [line for text in blocks(ROOT / "README.md", "console") for line in text.splitlines()]
    assert "$ pip install -e . && fusepipe run --rig rigs.yaml --name demo" in lines
    assert "$ pip install -e '.[test]' && pytest" in lines


def test_continuous_integration_runs_all_tests() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "scripts/check"
    lines = [line.strip() for line in (ROOT / "scripts" / "check").read_text().splitlines()]
    serial = lines.index('tests serial "serial" >"$output" 2>&1 &')
    parallel = lines.index("OPENBLAS_NUM_THREADS=1 nice -n 5 \\") + 1
    assert '-m "not serial"' in lines[parallel]
    waits = lines.index('wait "$serial" || one_by_one=$?')
    assert serial < parallel < waits
    assert [line for line in lines[waits:] if " once_more " in line] == [
        '[ "$parallel" = 0 ] || once_more parallel "not serial" "$parallel"',
        '[ "$one_by_one" = 0 ] || once_more serial "serial" "$one_by_one"',
    ]


@pytest.mark.parametrize("name", ["street", "recording"])
def test_live_examples_run_until_they_are_stopped(name: str) -> None:
    """There is time to open the page, or to watch segments come and go."""
    urls = re.findall(r'"(synthetic://street[?].*pace=real)"', (ROOT / "docs" / "rigs" / f"{name}.yaml").read_text())
    assert len(urls) == 2 and all(parse_options(url).duration_ns > H for url in urls)


def test_the_images_of_the_documentation_are_small() -> None:
    images = list((ROOT / "docs" / "images").iterdir())
    assert len(images) >= 2
    assert {image.name: size for image in images if (size := image.stat().st_size) >= 400_000} == {}
