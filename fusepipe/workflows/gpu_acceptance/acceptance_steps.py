"""The steps of the acceptance: what each of them does, as plain values that its process reads from a JSON file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from fusepipe.core.frames import Size

TORCH_EAGER, TORCH_GRAPH = "torch eager", "torch graph"


@dataclass(frozen=True, slots=True)
class MachineStep:
    """Reads driver, GPU and versions, and which precisions can be built."""

    device: str | None
    dry_run: bool
    kind: Literal["machine"] = "machine"


@dataclass(frozen=True, slots=True)
class BuildStep:
    """Builds an engine at ``plan``; ``images`` are folders to calibrate and verify with, ``None`` the street."""

    model: str
    backend: str
    precision: str
    warp: bool
    plan: Path
    shapes: tuple[Size, Size, Size]
    images: tuple[Path, Path] | None
    device: str | None
    dry_run: bool
    kind: Literal["build"] = "build"


@dataclass(frozen=True, slots=True)
class VerifyStep:
    """Verifies the engine at ``plan`` again, in another process."""

    plan: Path
    images: tuple[Path, Path] | None
    device: str | None
    dry_run: bool
    kind: Literal["verify"] = "verify"


@dataclass(frozen=True, slots=True)
class InspectStep:
    """Reads from the loaded engine at ``plan`` what it executes for images of a size."""

    plan: Path
    size: Size
    device: str | None
    dry_run: bool
    kind: Literal["inspect"] = "inspect"


@dataclass(frozen=True, slots=True)
class RateStep:
    """Measures pairs per second of ``runner`` (torch eager, torch graph, or an engine at ``plan``)."""

    model: str
    runner: str
    plan: Path | None
    size: Size
    rigs: int
    seconds: float
    device: str | None
    dry_run: bool
    kind: Literal["rate"] = "rate"


StepWork = MachineStep | BuildStep | VerifyStep | InspectStep | RateStep
STEP_JSON: TypeAdapter[StepWork] = TypeAdapter(StepWork)
