"""``fusepipe run`` of a folder: one target for Prometheus, and a bad file that disturbs no other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ports import free_port
from helpers.rig_process import wait_for

RUNS = ("running", "degraded")  # the latter on a busy machine
STREET = "synthetic://street?band={}&pace=real&size=80x60&fps=5&duration=1h"


def write(folder: Path, name: str, fusion: str = "{model: mean}") -> None:
    (folder / f"{name}.yaml").write_text(f"""\
schema: 1
rigs:
  {name}:
    infrared: {{url: "{STREET.format("infrared")}"}}
    visible: {{url: "{STREET.format("visible")}"}}
    fusion: {fusion}
    sinks: [{{images: "../out/{name}"}}]
""")


class FolderRun:
    """A run of ``folder/rigs`` with a page for all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.rigs = folder / "rigs"
        self.rigs.mkdir()

    def start(self) -> None:
        page = f"http://127.0.0.1:{self.port}"
        words = [sys.executable, "-m", "fusepipe", "run", "--rig", str(self.rigs), "--preview", page, "--json"]
        with (self.folder / "log").open("w") as log, (self.folder / "out.json").open("w") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=log)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=15) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def shows(self, name: str, *states: str) -> bool:
        """Whether the metrics say that a rig has one of these states."""
        metrics = self.metrics()
        return any(f'fusepipe_rig_state{{rig="{name}",state="{state}"}} 1' in metrics for state in states)

    def wait_for_images(self, name: str) -> None:
        wait_for(lambda: list((self.folder / "out" / name).glob("*.png")), self.folder)

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[FolderRun]:
    run = FolderRun(tmp_path)
    yield run
    run.process.kill()
    run.process.wait(timeout=20)


@pytest.mark.timeout(240)
def test_a_bad_file_is_shown_as_failed_and_starts_when_it_is_corrected(run: FolderRun, tmp_path: Path) -> None:
    write(run.rigs, "roof")
    write(run.rigs, "yard", "{modle: mean}")
    run.start()
    run.wait_for_images("roof")
    assert "yard.yaml:6: rigs.yard.fusion.modle: unknown key" in run.log
    assert "yard: cannot start; correct the file and reload" in run.log
    wait_for(lambda: run.shows("roof", *RUNS), tmp_path)
    assert run.shows("yard", "failed")

    write(run.rigs, "yard")
    write(run.rigs, "gate")  # added
    run.reload()
    run.wait_for_images("yard")
    run.wait_for_images("gate")
    assert "reload: yard: is new; starting" in run.log
    wait_for(lambda: run.shows("yard", *RUNS) and run.shows("gate", *RUNS), tmp_path)

    (run.rigs / "gate.yaml").write_text("schema: [")  # a running rig keeps its settings
    run.reload()
    wait_for(lambda: "gate.yaml: cannot start; correct the file and reload" in run.log, tmp_path)
    assert run.shows("gate", *RUNS) and run.shows("gate.yaml", "failed")

    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(timeout=60) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    states = {one["rig"]: one["status"]["state"] for one in report["rigs"]}
    assert states == {"roof": "stopped", "yard": "stopped", "gate": "stopped", "gate.yaml": "failed"}
    assert "Traceback" not in run.log
