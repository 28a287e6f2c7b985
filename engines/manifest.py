"""The manifest of a built engine: a JSON file beside the plan that is checked before the plan is loaded.

A plan is executable code. It is loaded only if its manifest says that this program built it for this library, and
only if its bytes are the verified ones.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Self

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import from_json

from fusepipe.core.errors import EngineError
from fusepipe.engines.verification import Verification

FORMAT = 2
EngineSize = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]  # (width, height)


def _one_of(*names: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"not one of {', '.join(names)}")
        return value

    return AfterValidator(check)


EngineBackend = Annotated[str, _one_of("openvino", "tensorrt", "tensorrt-rtx")]
EnginePrecision = Annotated[str, _one_of("fp32", "fp16", "bf16", "int8")]


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True))
class Shapes:
    """Image sizes an engine accepts, as in an optimisation profile of TensorRT.

    ``min``, ``opt`` (the size it is tuned for) and ``max`` are (width, height); ``batch`` is the largest batch.
    """

    min: EngineSize
    opt: EngineSize
    max: EngineSize
    batch: Annotated[int, Field(ge=1)] = 1

    def refusal(self, height: int, width: int, batch: int) -> str:
        """Why the engine does not accept a request of this size; empty if it does."""
        (min_w, min_h), (max_w, max_h) = self.min, self.max
        if batch > self.batch:
            return f"a batch of {batch} is more than this engine's {self.batch}"
        if min_w <= width <= max_w and min_h <= height <= max_h:
            return ""
        return f"{width}x{height} is outside this engine's sizes, {min_w}x{min_h} to {max_w}x{max_h}"

    def padded(self, multiple: int, *, raw: bool = False) -> Shapes:
        """The sizes after padding to the engine's ``multiple``.

        ``raw`` is for engines that warp the infrared image: it is not padded, so that ``min`` is rounded down.
        """

        def up(size: EngineSize) -> EngineSize:
            return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple

        down = max(1, self.min[0] // multiple) * multiple, max(1, self.min[1] // multiple) * multiple
        return Shapes(down if raw else up(self.min), up(self.opt), up(self.max), self.batch)

    def __str__(self) -> str:
        return " ".join(f"{width}x{height}" for width, height in (self.min, self.opt, self.max))


class Manifest(BaseModel):
    """Everything that decides whether an engine fits this machine and may be trusted.

    ``onnx_sha256`` is the fp32 network it was built from, ``graph_sha256`` the converted graph that was compiled,
    ``plan_sha256`` the plan. ``layers`` counts the compute layers by the precision read back from ``layers_from``;
    ``kept_fp32`` names those that stay fp32 on purpose. ``warp``: the engine registers the infrared image.
    ``targets`` are the GPU architectures it was built for (``SM89``); empty means all that the library supports.
    ``rebuild`` is the command that builds it again.
    """

    model_config = ConfigDict(frozen=True, strict=True, ser_json_inf_nan="constants")

    model: str
    backend: EngineBackend
    requested_precision: EnginePrecision
    achieved_precision: EnginePrecision
    onnx_sha256: str
    graph_sha256: str
    plan_sha256: str
    plan_bytes: int
    library: str
    library_version: str
    device: str
    shapes: Shapes
    multiple: Annotated[int, Field(ge=1)]
    verification: Verification
    warp: bool = False
    driver: str = ""
    cuda: str = ""
    targets: tuple[str, ...] = ()
    layers: dict[str, int] = Field(default_factory=dict)
    layers_from: str = ""
    kept_fp32: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    built: str = ""
    build_s: float = 0.0
    rebuild: str = ""
    fusepipe: str = ""
    format: int = FORMAT

    @field_validator("library_version")
    @classmethod
    def _is_a_version(cls, text: str) -> str:
        try:
            Version(text)
        except InvalidVersion as error:
            raise ValueError("not a version number") from error
        return text

    @model_validator(mode="after")
    def _has_its_precision(self) -> Self:
        if self.requested_precision != self.achieved_precision:
            asked, achieved = self.requested_precision, self.achieved_precision
            raise ValueError(f"requested {asked} but achieved {achieved}; such an engine is never published")
        return self

    def text(self) -> str:
        """The content of the manifest file."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """A manifest from a file's content; ``name`` is for messages. Raises :class:`EngineError`."""
        try:
            data = from_json(text)
            if not isinstance(data, dict) or "format" not in data:
                raise ValueError("it is not a manifest of fusepipe")
            if data["format"] != FORMAT:
                raise ValueError(f"it has format {data['format']}, this fusepipe reads {FORMAT}")
            return cls.model_validate_json(text)
        except ValueError as error:
            raise EngineError(f"{name}: cannot be used ({_reason(error)}); build the engine again") from error


def _reason(error: ValueError) -> str:
    """The first problem in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where} is {problem['input']!r}: {message}" if where else message


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal, as in manifests."""
    return hashlib.sha256(content).hexdigest()


def manifest_path(plan: Path) -> Path:
    """The manifest file of a plan: ``NAME.plan.json`` for ``NAME.plan``."""
    return plan.with_name(f"{plan.name}.json")


def graph_path(plan: Path) -> Path:
    """The file of the converted graph that a plan was compiled from; not needed to run it."""
    return plan.with_name(f"{plan.name}.onnx")


def read_manifest(plan: Path) -> Manifest:
    """The manifest of a plan; raises :class:`EngineError` if it is missing or damaged."""
    path = manifest_path(plan)
    try:
        return Manifest.parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        if not plan.exists():
            raise EngineError(f"{plan}: no such engine; 'fusepipe list-engines' lists the engines") from error
        raise EngineError(
            f"{plan}: has no manifest ({path.name}); plans are executable code and are only loaded with the manifest "
            "that 'fusepipe build-engine' writes"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_plan(plan: Path) -> tuple[Manifest, bytes]:
    """The manifest and the verified bytes of a plan; raises :class:`EngineError` if they do not match.

    A mismatch is retried once: another process may be replacing both files.
    """
    for last in (False, True):
        manifest = read_manifest(plan)
        try:
            content = plan.read_bytes()
        except OSError as error:
            raise EngineError(f"{plan}: cannot be read ({error.strerror or error})") from error
        if sha256(content) == manifest.plan_sha256:
            break
        if last:
            whole = len(content) == manifest.plan_bytes
            size = "its bytes have changed" if whole else f"{len(content)} of {manifest.plan_bytes} bytes"
            raise EngineError(
                f"{plan}: is damaged or is not the engine of its manifest ({size}); {rebuild_line(manifest)}"
            )
    return manifest, content


def damage(plan: Path) -> str:
    """The error of :func:`read_plan` for a damaged engine; empty for an intact one."""
    try:
        read_plan(plan)
    except EngineError as error:
        return str(error)
    return ""


def rebuild_line(manifest: Manifest) -> str:
    """The fix for an engine that does not fit: the command that builds it again."""
    return f"build it again: {manifest.rebuild or 'fusepipe build-engine'}"
