"""The work of the steps about one engine, and about the machine: plain values for the report."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from fusepipe.core import machine
from fusepipe.core.errors import EngineError
from fusepipe.core.version import __version__
from fusepipe.engines.backends.cuda.api import Gpu, open_cuda
from fusepipe.engines.backends.tensorrt.inspector import inspect_plan
from fusepipe.engines.backends.tensorrt.library import MODULES
from fusepipe.engines.choose import driver, gpu_here, misfit_of_packages, package_installed, torch_runs
from fusepipe.engines.fit import unsupported_precision
from fusepipe.engines.manifest import Manifest, Shapes, read_plan
from fusepipe.engines.verification import Verification
from fusepipe.pipeline.sources.decoders.hardware import decoder_problem
from fusepipe.pipeline.sources.decoders.kinds import HARDWARE
from fusepipe.workflows.build_engine.build import PRECISIONS, BuildOptions, build_engine
from fusepipe.workflows.gpu_acceptance.acceptance_steps import BuildStep, InspectStep, MachineStep, VerifyStep
from fusepipe.workflows.verify_engine import verify_engine

_LIBRARIES = (
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-cu12",
    "tensorrt-rtx-cu13",
    "tensorrt-rtx-cu12",
    "cuda-bindings",
    "pycuda",
    "torch",
    "onnx",
    "openvino",
    "numpy",
)
BATCH = 4  # so that four rigs share a batch
DOUBLE = Gpu("test double, computed on the CPU", "SM89", "0.0", "")


def read_machine(step: MachineStep) -> dict[str, Any]:
    """Driver, GPUs, decoders, versions, what each backend can build; raises :class:`EngineError`, no GPU."""
    gpu, why = (DOUBLE, "") if step.dry_run else gpu_here(step.device)
    if gpu is None:
        raise EngineError(f"{why}; --dry-run runs all steps on the test double")
    precisions: dict[str, list[str]] = {}
    missing = {}
    for backend in MODULES:
        why = "" if package_installed(backend) else f"{MODULES[backend]} is not installed"
        why = why or ("" if step.dry_run else misfit_of_packages(backend, gpu))
        if step.dry_run and backend == "tensorrt":
            why = "builds on a GPU only"
        if why:
            missing[backend] = why
            continue
        precisions[backend] = [name for name in PRECISIONS[backend] if not unsupported_precision(name, (gpu.sm,))]
    if not step.dry_run and not torch_runs():
        missing["torch"] = "PyTorch is not installed, or was not built for CUDA"
    return {
        "gpu": asdict(gpu),
        "gpus": [asdict(one) for one in driver().gpus],
        "nvidia_smi": machine.nvidia_gpus(),
        "cpu": machine.processor().name,
        "cores": machine.usable_cores(),
        "system": platform.platform(),
        "decoders": {kind.name: decoder_problem(kind) for kind in HARDWARE},
        "versions": _versions(),
        "precisions": precisions,
        "missing": missing,
    }


def _versions() -> dict[str, str]:
    found = {"fusepipe": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def build_one(step: BuildStep) -> dict[str, Any]:
    """Builds and verifies an engine; raises :class:`EngineError`, also if the GPU did not execute it."""
    options = BuildOptions(
        model=step.model,
        backend=step.backend,
        precision=step.precision,
        shapes=Shapes(*step.shapes, batch=BATCH),
        warp=step.warp,
        images=step.images,
        output=step.plan,
        force=True,
        device=step.device,
    )
    manifest = build_engine(options).engine.manifest
    _require_executed(manifest.verification, step.dry_run)
    return _engine_facts(manifest) | {"agreement": _agreement(manifest.verification)}


def verify_one(step: VerifyStep) -> dict[str, Any]:
    """Verifies an engine again; raises :class:`EngineError`."""
    verified = verify_engine(step.plan, step.images, device=step.device)
    _require_executed(verified.verification, step.dry_run)
    return {"agreement": _agreement(verified.verification)}


def inspect_one(step: InspectStep) -> dict[str, Any]:
    """What the GPU executes of an engine; raises :class:`EngineError`."""
    manifest, plan = read_plan(step.plan)
    if step.dry_run:
        return {"not_read": "the test double has no engine inspector"}
    gpu, why = gpu_here(step.device)
    if gpu is None:
        raise EngineError(why)
    host_code = bool(manifest.options.get("version_compatible"))
    cuda = open_cuda(device=gpu.index)
    return asdict(inspect_plan(manifest.backend, plan, step.size, host_code=host_code, cuda=cuda))


def _require_executed(verification: Verification, dry_run: bool) -> None:
    if not verification.executed and not dry_run:
        raise EngineError(f"the engine was built and not executed: {verification.subject}")


def _agreement(verification: Verification) -> list[dict[str, Any]]:
    return [
        {"reference": one.reference, "psnr_db": round(one.psnr_db, 1), "max_abs": one.max_abs}
        for one in verification.agreements
    ]


def _engine_facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "plan_kib": round(manifest.plan_bytes / 1024),
        "build_s": manifest.build_s,
        "achieved": manifest.achieved_precision,
        "layers": manifest.layers,
        "layers_from": manifest.layers_from,
        "kept_fp32": list(manifest.kept_fp32),
        "executed": manifest.verification.executed,
        "subject": manifest.verification.subject,
    }
