"""A rigs.yaml with one rig, and the problems that loading it reports."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fusepipe.config.rig_file import load_rig_file
from fusepipe.config.schema import Rig
from fusepipe.core.errors import ConfigError

RIG = """\
schema: 1
rigs:
  one:
    infrared: {url: ir.mkv}
    visible: {url: vis.mkv}
    SECTION
    sinks: [SINK]
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "rigs.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def rig_of(tmp_path: Path, section: str = "", sink: str = "{file: out.mkv}", **environ: str) -> Rig:
    text = RIG.replace("SECTION", section or "output: {}").replace("SINK", sink)
    return load_rig_file(write(tmp_path, text)).select(["one"], environ)[0]


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_rig_file(file).select(None, environ or {})
    assert all(problem.file == str(file) for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems]


def in_rig(tmp_path: Path, section: str = "output: {}", sink: str = "{file: out.mkv}", **environ: str) -> list[str]:
    return problems(tmp_path, RIG.replace("SECTION", section).replace("SINK", sink), environ)
