"""The options of ``fusepipe run --processes``, the pages of the processes, and how their run ends."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from fusepipe.commands.console.processes import ProcessCount, commands_of, finish_processes
from fusepipe.config.schema import Rig
from fusepipe.core.errors import FusepipeError, UsageError
from fusepipe.core.machine import usable_cores
from fusepipe.rig.process.run_workers import WorkerResult, WorkersOutcome


def rig(name: str, sink: dict[str, Any]) -> Rig:
    cameras = {band: {"url": f"synthetic://street?band={band}"} for band in ("infrared", "visible")}
    return Rig.model_validate({"name": name, **cameras, "sinks": [sink]})


SHARES = [[rig("a", {"images": "a"})], [rig("b", {"images": "b"})]]


def test_auto_is_four_processes_a_core_at_most() -> None:
    assert ProcessCount().convert("auto", None, None) == max(1, int(4 * usable_cores()))
    assert ProcessCount().convert("3", None, None) == 3


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
def test_other_values_are_refused_with_the_ones_that_serve(value: str) -> None:
    with pytest.raises(click.BadParameter, match="should be a number from 1 on, or auto"):
        ProcessCount().convert(value, None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "rig.example.org"])
def test_each_process_has_the_words_and_a_page_of_its_own(host: str) -> None:
    commands = commands_of(SHARES, ["--rig=rigs.d", "--quiet"], f"https://{host}:8080")
    for number, command in enumerate(commands):
        assert command[-4:] == ["run", "--rig=rigs.d", "--quiet", f"--preview=https://{host}:{8080 + number}"]
    assert commands_of(SHARES, ["--quiet"], None)[1][-2:] == ["run", "--quiet"]


def test_a_page_on_a_port_of_another_process_is_refused() -> None:
    taken = rig("b", {"rtsp": "rtsp://127.0.0.1:8080/b"})
    with pytest.raises(UsageError, match=r"ports 8080 to 8081, and rig b serves on 8080 already: choose another port"):
        commands_of([SHARES[0], [taken]], [], "http://127.0.0.1:8080")
    assert len(commands_of([[taken], SHARES[0]], [], "http://127.0.0.1:8080")) == 2
    with pytest.raises(UsageError, match=r"need the ports 65535 to 65536: choose a lower one"):
        commands_of(SHARES, [], "http://127.0.0.1:65535")


def test_after_sigterm_only_processes_that_ran_until_then_count() -> None:
    failed, before = result("a", code=5), result("b", code=3, ended_before_stop=True)
    assert WorkersOutcome([before, failed], interrupted=True, terminated=True).exit_code == 5
    assert WorkersOutcome([before], interrupted=True, terminated=True).exit_code == 0
    assert WorkersOutcome([before]).exit_code == 3


def result(*names: str, code: int = 0, errors: tuple[str, ...] = (), **changes: Any) -> WorkerResult:
    document = {"errors": [{"message": text} for text in errors], "rigs": [{"rig": name} for name in names]}
    given = {"restarts": 0, "output": json.dumps(document), "failure": ""} | changes
    return WorkerResult(list(names), code, **given)


def finished(
    outcome: WorkersOutcome, capsys: pytest.CaptureFixture[str], *, as_json: bool = True
) -> tuple[int, str, str]:
    with pytest.raises(click.exceptions.Exit) as ended:
        finish_processes(outcome, ["a", "b", "c"], as_json=as_json)
    return ended.value.exit_code, *capsys.readouterr()


def test_one_document_has_the_rigs_in_their_order_and_an_error_of_all_processes_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = "bad.yaml: cannot be read"
    outcome = WorkersOutcome([result("a", "c", code=2, errors=(bad,)), result("b", code=2, errors=(bad, "b: lost"))])
    code, out, _ = finished(outcome, capsys)
    document = json.loads(out)
    assert (code, document["exit_code"], document["ok"]) == (2, 2, False)
    assert [report["rig"] for report in document["rigs"]] == ["a", "b", "c"]
    assert [error["message"] for error in document["errors"]] == [bad, "b: lost"]


def test_a_process_that_died_is_an_error_and_its_rigs_have_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    died = result("b", code=-9, output="", restarts=2, failure="was killed by SIGKILL")
    outcome = WorkersOutcome([result("a"), died], [FusepipeError("process 2 (b) was killed by SIGKILL")])
    code, out, log = finished(outcome, capsys)
    document = json.loads(out)
    assert (code, [report["rig"] for report in document["rigs"]]) == (1, ["a"])
    assert document["errors"][0]["message"] == "process 2 (b) was killed by SIGKILL"
    assert document["processes"][1] == {"rigs": ["b"], "exit_code": -9, "restarts": 2, "failure": died.failure}
    assert "the process of b was started again 2 times; its report is of the last run" in log


def test_a_single_restart_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = WorkersOutcome([result("a"), result("b", restarts=1, failure="ended with exit code 5")])
    _, _, log = finished(outcome, capsys)
    assert "the process of b was started again once; its report is of the last run" in log


@pytest.mark.parametrize(("terminated", "code", "says"), [(True, 0, "stopped by SIGTERM"), (False, 130, "interrupted")])
def test_a_signal_is_the_end_of_all(terminated: bool, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    workers = [result("a", output="a: 3 pairs\n"), result("b", output="b: 4 pairs\n")]
    outcome = WorkersOutcome(workers, interrupted=True, terminated=terminated)
    assert finished(outcome, capsys, as_json=False) == (code, "a: 3 pairs\nb: 4 pairs\n", f"fusepipe: {says}\n")
