"""The process of one step: ``python -m fusepipe.workflows.gpu_acceptance.step_process STEP.json RESULT.json``.

The last line that it prints on a failure is the reason in the report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, assert_never

from fusepipe.core.errors import FusepipeError
from fusepipe.core.files import write_text
from fusepipe.workflows.gpu_acceptance.acceptance_steps import (
    STEP_JSON,
    BuildStep,
    InspectStep,
    MachineStep,
    RateStep,
    StepWork,
    VerifyStep,
)
from fusepipe.workflows.gpu_acceptance.engine_steps import build_one, inspect_one, read_machine, verify_one
from fusepipe.workflows.gpu_acceptance.pair_rates import measure_rate


def do_step(step: StepWork) -> dict[str, Any]:
    """The result of a step, as plain values."""
    match step:
        case MachineStep():
            return read_machine(step)
        case BuildStep():
            return build_one(step)
        case VerifyStep():
            return verify_one(step)
        case InspectStep():
            return inspect_one(step)
        case RateStep():
            return asdict(measure_rate(step))
        case _:
            assert_never(step)


def run_step_file(arguments: Sequence[str]) -> int:
    """Does the step of a file and writes its result; returns the exit code."""
    step, result = (Path(name) for name in arguments)
    try:
        found = do_step(STEP_JSON.validate_json(step.read_bytes()))
    except FusepipeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    write_text(result, json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_step_file(sys.argv[1:]))
