"""The page of an acceptance: verdict, machine, failed steps, engines, tests and pairs per second; without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusepipe.evaluation.report import html
from fusepipe.workflows.gpu_acceptance.acceptance_report import AcceptanceReport, StepReport

NONE = "–"


@dataclass(frozen=True, slots=True)
class _RateRow:
    """A network on one backend: pairs per second, CPU time and latency for each column; ``None`` if it failed."""

    model: str
    runner: str
    cells: Sequence[dict[str, Any] | None]


def acceptance_page(report: AcceptanceReport) -> str:
    """The whole report as one HTML document."""
    machine = report.machine
    gpu = machine.get("gpu", {}).get("name", "no GPU read yet")
    columns = list(dict.fromkeys(_column(step) for step in report.of_kind("rate")))
    return html.render(
        "gpu_acceptance.html",
        "fusepipe.workflows.gpu_acceptance",
        title="GPU acceptance",
        facts=[gpu, report.started, f"{report.seconds:.0f} s", *(["dry run on the test double"] * report.dry_run)],
        verdict=_verdict(report),
        machine=_machine_rows(machine),
        failed=report.failed,
        engines=[_engine_row(step, report) for step in report.of_kind("build")],
        tests=report.of_kind("tests"),
        columns=columns,
        rates=_rate_rows(report.of_kind("rate"), columns),
        steps=report.steps,
        script="",
    )


def _verdict(report: AcceptanceReport) -> tuple[str, str]:
    """(class of the style sheet, sentence)."""
    count, failed = len(report.steps), len(report.failed)
    if failed:
        return "bad", f"{failed} of {count} steps failed."
    return "good", f"All {count} steps passed."


def _machine_rows(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not machine:
        return []
    gpu = machine["gpu"]
    others = [f"{one['index']}: {one['name']} ({one['sm']}, {one['uuid']})" for one in machine["gpus"]]
    return [
        ("GPU", f"{gpu['name']}, {gpu['sm']}"),
        ("all GPUs", "; ".join(others) or NONE),
        ("driver", "; ".join(machine["nvidia_smi"]) or "nvidia-smi does not answer"),
        ("CUDA of the driver", gpu["driver_cuda"]),
        ("CPU", f"{machine['cpu']}, {machine['cores']:g} cores"),
        ("system", machine["system"]),
        *((f"decoder {name}", why or "decodes a test clip exactly") for name, why in machine["decoders"].items()),
        *machine["versions"].items(),
        *((f"{name}: not used", why) for name, why in machine["missing"].items()),
    ]


def _engine_row(build: StepReport, report: AcceptanceReport) -> dict[str, Any]:
    plan = build.asked["plan"]
    beside = {
        kind: next((step for step in report.of_kind(kind) if step.asked["plan"] == plan), None)
        for kind in ("verify", "inspect")
    }
    found = build.result
    return {
        "name": build.name.removeprefix("build "),
        "passed": build.passed,
        "layers": _counts(found.get("layers", {})),
        "executed": _executed(beside["inspect"]),
        "plan_kib": found.get("plan_kib", NONE),
        "build_s": found.get("build_s", NONE),
        "agreement": _worst(found.get("agreement", [])),
        "again": NONE if beside["verify"] is None else _worst(beside["verify"].result.get("agreement", [])),
        "on_gpu": found.get("executed"),
    }


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or NONE


def _executed(inspect: StepReport | None) -> str:
    return NONE if inspect is None else _counts(inspect.result.get("by_output", {}))


def _worst(agreements: Sequence[Mapping[str, Any]]) -> str:
    if not agreements:
        return NONE
    return f"{min(one['psnr_db'] for one in agreements)} dB, {max(one['max_abs'] for one in agreements)}"


def _column(step: StepReport) -> tuple[str, str]:
    width, height = step.asked["size"]
    rigs = step.asked["rigs"]
    return f"{width}x{height}", f"{rigs} rig{'s' * (rigs > 1)}"


def _rate_rows(steps: Sequence[StepReport], columns: Sequence[tuple[str, str]]) -> list[_RateRow]:
    rows: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for step in steps:
        cells = rows.setdefault((step.asked["model"], step.asked["runner"]), {})
        if step.passed:
            cells[_column(step)] = step.result
    return [_RateRow(*names, [cells.get(column) for column in columns]) for names, cells in rows.items()]
