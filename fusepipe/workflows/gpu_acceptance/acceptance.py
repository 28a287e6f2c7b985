"""Runs all steps one after another, each in a process with a time limit, and writes the report after each of them.

A failed step is recorded with its reason, and the others go on: what does not work on the first GPU of a kind is known
after one run. The report on the disk is complete up to the step that runs, also if the machine goes down.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2

from fusepipe.core.errors import EngineError
from fusepipe.core.files import write_text
from fusepipe.core.frames import Size
from fusepipe.core.models import NETWORKS
from fusepipe.workflows.build_engine.image_pairs import verification_pairs
from fusepipe.workflows.gpu_acceptance.acceptance_page import acceptance_page
from fusepipe.workflows.gpu_acceptance.acceptance_report import AcceptanceReport, StepReport, read_junit
from fusepipe.workflows.gpu_acceptance.acceptance_steps import (
    STEP_JSON,
    TORCH_EAGER,
    TORCH_GRAPH,
    BuildStep,
    InspectStep,
    MachineStep,
    RateStep,
    StepWork,
    VerifyStep,
)
from fusepipe.workflows.gpu_acceptance.limited_process import run_limited

REPORT, PAGE = "gpu_acceptance.json", "gpu_acceptance.html"
_MODULE = "fusepipe.workflows.gpu_acceptance.step_process"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_DRY_RUN_SIZE: Size = (96, 64)
_WARP = "stream"  # the network that is also built with the registration warp


@dataclass(frozen=True, slots=True)
class AcceptanceOptions:
    """What to do, and the time limits of each kind of step in seconds.

    ``output`` is a folder for the report, the engines and the logs. ``tests`` is the root of the project's sources,
    ``None`` to leave the tests out. ``dry_run`` does everything in small on the test double.
    """

    output: Path
    tests: Path | None
    models: tuple[str, ...] = tuple(sorted(NETWORKS))
    precisions: tuple[str, ...] = PRECISIONS
    sizes: tuple[Size, ...] = ((640, 480), (1920, 1080))
    rigs: tuple[int, ...] = (1, 4)
    seconds: float = 5.0
    device: str | None = None
    dry_run: bool = False
    build_limit_s: float = 900.0
    test_limit_s: float = 1800.0
    rate_limit_s: float = 300.0


def run_acceptance(options: AcceptanceOptions, say: Callable[[str], None]) -> AcceptanceReport:
    """Runs everything; raises :class:`EngineError` if there is no GPU. ``say`` gets a line for each step."""
    for folder in ("engines", "logs", "steps"):
        (options.output / folder).mkdir(parents=True, exist_ok=True)
    return _Run(options, say).run()


class _Run:
    def __init__(self, options: AcceptanceOptions, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._report = AcceptanceReport(started, options.dry_run, {}, [])
        self._began = time.monotonic()
        dry_run = options.dry_run
        self._sizes = (_DRY_RUN_SIZE,) if dry_run else options.sizes
        self._seconds = min(options.seconds, 0.2) if dry_run else options.seconds
        self._images = _write_images(options.output / "images") if dry_run else None
        self._shapes = ((64, 64), _DRY_RUN_SIZE, (256, 256)) if dry_run else ((64, 64), (640, 480), (1920, 1088))

    def run(self) -> AcceptanceReport:
        options = self._options
        machine = self._step("machine", MachineStep(options.device, options.dry_run), options.rate_limit_s)
        if not machine.passed:
            raise EngineError(machine.reason)
        self._report.machine.update(machine.result)
        plans = self._build_engines()
        self._run_tests()
        self._measure(plans)
        return self._report

    def _build_engines(self) -> dict[str, list[tuple[str, Path]]]:
        """Builds, verifies and inspects; returns (runner, plan) of what was built, by network."""
        options = self._options
        built: dict[str, list[tuple[str, Path]]] = {model: [] for model in options.models}
        wanted = [
            (model, backend, precision, warp)
            for model in options.models
            for backend, precisions in self._report.machine["precisions"].items()
            for precision in precisions
            if precision in options.precisions
            for warp in ((False, True) if (model, precision) == (_WARP, "fp16") else (False,))
        ]
        if not wanted:
            missing = "; ".join(f"{name}: {why}" for name, why in self._report.machine["missing"].items())
            self._add(StepReport("build", {}, False, 0.0, 0.0, f"no TensorRT: {missing}"))
        common = options.device, options.dry_run
        for model, backend, precision, warp in wanted:
            name = f"{model} {backend} {precision}{' warp' if warp else ''}"
            plan = options.output / "engines" / f"{name.replace(' ', '_')}.plan"
            build = BuildStep(model, backend, precision, warp, plan, self._shapes, self._images, *common)
            if not self._step(f"build {name}", build, options.build_limit_s).passed:
                continue
            self._step(f"verify {name}", VerifyStep(plan, self._images, *common), options.build_limit_s)
            self._step(f"inspect {name}", InspectStep(plan, self._sizes[0], *common), options.rate_limit_s)
            if not warp:
                built[model].append((f"{backend} {precision}", plan))
        return built

    def _measure(self, plans: dict[str, list[tuple[str, Path]]]) -> None:
        options = self._options
        for model in options.models:
            runners = [(TORCH_EAGER, None), (TORCH_GRAPH, None), *plans[model]]
            for runner, plan in runners:
                for size in self._sizes:
                    for rigs in options.rigs:
                        name = f"rate {model} {runner} {size[0]}x{size[1]} {rigs}"
                        common = options.device, options.dry_run
                        step = RateStep(model, runner, plan, size, rigs, self._seconds, *common)
                        self._step(name, step, options.rate_limit_s)

    def _run_tests(self) -> None:
        root = self._options.tests
        if root is None:
            return
        contract = ["tests/engines/test_fuser_contract.py"]
        if self._options.dry_run:
            contract += ["-k", "fake"]
        for name, words in (("tests contract", contract), ("tests gpu", ["-m", "gpu", "tests/engines"])):
            results = self._path("steps", name, ".xml")
            command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={results}", *words]
            env = {} if self._options.dry_run else {"FUSEPIPE_REQUIRE_GPU": "1"}
            end = run_limited(command, self._path("logs", name, ".txt"), self._options.test_limit_s, cwd=root, env=env)
            found = read_junit(results)
            self._add(
                StepReport(
                    name, {"kind": "tests"}, end.passed, end.seconds, self._options.test_limit_s, end.reason, found
                )
            )

    # -- one step

    def _step(self, name: str, work: StepWork, limit_s: float) -> StepReport:
        asked, result = self._path("steps", name, ".json"), self._path("steps", name, ".result.json")
        result.unlink(missing_ok=True)
        asked.write_bytes(STEP_JSON.dump_json(work))
        command = [sys.executable, "-m", _MODULE, str(asked), str(result)]
        # kernels that were compiled before would make this run faster than the first one of a user
        env = {"XDG_CACHE_HOME": str(self._options.output.resolve() / "cache")}
        end = run_limited(command, self._path("logs", name, ".txt"), limit_s, env=env)
        found: dict[str, Any] = json.loads(result.read_bytes()) if end.passed else {}
        asked_for: dict[str, Any] = STEP_JSON.dump_python(work, mode="json")
        return self._add(StepReport(name, asked_for, end.passed, end.seconds, limit_s, end.reason, found))

    def _path(self, folder: str, name: str, suffix: str) -> Path:
        return (self._options.output / folder / name.replace(" ", "_")).with_suffix(suffix)

    def _add(self, step: StepReport) -> StepReport:
        self._report.steps.append(step)
        self._report.seconds = round(time.monotonic() - self._began, 1)
        self._say(step.line())
        write_text(self._options.output / REPORT, json.dumps(self._report.as_json(), indent=2))
        write_text(self._options.output / PAGE, acceptance_page(self._report))
        return step


def _write_images(folder: Path) -> tuple[Path, Path]:
    """A few small pairs in (infrared, visible) folders, so that a dry run on a CPU takes a minute."""
    folders = folder / "ir", folder / "vis"
    for number, pair in enumerate(verification_pairs()):
        for path, image in zip(folders, pair, strict=True):
            path.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path / f"{number}.png"), cv2.resize(image, _DRY_RUN_SIZE))
    return folders
