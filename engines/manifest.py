"""What is known of a built engine: a JSON file beside the plan, checked before the plan is touched.

A plan is code: nothing in it is read before its manifest says that it was made by this program for this
library, and that its bytes are the ones that were proven.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from fusepipe.core.errors import EngineError
from fusepipe.core.machine import rtx_runs_on

FORMAT = 1
Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes an engine takes: least, the one it is tuned for, most, (width, height) each; and its largest batch."""

    least: Size
    best: Size
    most: Size
    batch: int = 1

    def refusal(self, height: int, width: int, batch: int) -> str:
        """Why a request does not fit, empty where it does."""
        (low_w, low_h), (high_w, high_h) = self.least, self.most
        if batch > self.batch:
            return f"a batch of {batch} is more than this engine's {self.batch}"
        if low_w <= width <= high_w and low_h <= height <= high_h:
            return ""
        return f"{width}x{height} is outside this engine's sizes, {low_w}x{low_h} to {high_w}x{high_h}"

    def padded(self, multiple: int, *, raw: bool = False) -> Shapes:
        """The sizes as they reach the engine: images are padded up to its ``multiple``.

        ``raw`` for an engine with the registration, whose infrared images come as they are: the least stays below.
        """

        def up(size: Size) -> Size:
            return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple

        down = max(1, self.least[0] // multiple) * multiple, max(1, self.least[1] // multiple) * multiple
        return Shapes(down if raw else up(self.least), up(self.best), up(self.most), self.batch)

    def __str__(self) -> str:
        return " ".join(f"{width}x{height}" for width, height in (self.least, self.best, self.most))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that decides whether an engine fits and may be trusted.

    ``onnx_sha256`` is the fp32 network it was made from, ``graph_sha256`` the converted graph that was
    compiled, ``plan_sha256`` the plan. ``layers`` counts the compute layers by the precision they really
    have; ``kept_fp32`` names those that stayed fp32 on purpose. ``warp`` says that the
    engine registers by itself. ``targets`` are the GPU architectures it was built for (``SM89``), empty: any that
    the library knows. ``proof`` is what :class:`fusepipe.engines.builder.proof.Proof` holds.
    """

    model: str
    backend: str
    requested_precision: str
    achieved_precision: str
    onnx_sha256: str
    graph_sha256: str
    plan_sha256: str
    plan_bytes: int
    library: str
    library_version: str
    device: str
    shapes: Shapes
    multiple: int
    proof: dict[str, Any]
    warp: bool = False
    driver: str = ""
    cuda: str = ""
    targets: tuple[str, ...] = ()
    layers: dict[str, int] = field(default_factory=dict)
    kept_fp32: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    built: str = ""
    build_s: float = 0.0
    rebuild: str = ""
    fusepipe: str = ""
    format: int = FORMAT

    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """From a file's content; ``name`` is for messages. Raises :class:`EngineError`."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or "format" not in data:
                raise ValueError("it is no manifest of fusepipe")
            if data["format"] != FORMAT:
                raise ValueError(f"it has format {data['format']}, this fusepipe reads {FORMAT}")
            there = [item for item in fields(cls) if _is_in(item, data)]
            manifest = cls(**{item.name: _value(item.name, str(item.type), data) for item in there})
            if manifest.requested_precision != manifest.achieved_precision:
                asked, got = manifest.requested_precision, manifest.achieved_precision
                raise ValueError(f"{asked} was asked for and {got} achieved, which no build keeps")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise EngineError(f"{name}: cannot be used ({said}); build the engine again") from error
        return manifest


# annotation -> (types of JSON, what it is in words); the values of a dict are for people and not looked at
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "tuple[str, ...]": ((list,), "a list"),
    "dict[str, Any]": ((dict,), "an object"),
    "dict[str, int]": ((dict,), "an object"),
    "Shapes": ((dict,), "an object"),
}
# what decides how an engine is run: nothing else may stand there, whoever edited the file
_ALLOWED = {
    "backend": ("openvino", "tensorrt", "tensorrt-rtx"),
    "requested_precision": ("fp32", "fp16", "bf16", "int8"),
    "achieved_precision": ("fp32", "fp16", "bf16", "int8"),
}


def _is_in(item: Field[Any], data: dict[str, Any]) -> bool:
    if item.name in data:
        return True
    if item.default is MISSING and item.default_factory is MISSING:
        raise KeyError(item.name)
    return False


def _value(name: str, kind: str, data: dict[str, Any]) -> Any:
    value: Any = data[name]
    types, words = _KINDS[kind]
    if type(value) not in types:  # not isinstance: true is no number
        raise ValueError(f"{name} is {value!r}, not {words}")
    if value not in _ALLOWED.get(name, (value,)):
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(_ALLOWED[name])}")
    if name == "multiple" and value < 1:
        raise ValueError(f"{name} is {value!r}, not 1 or more")
    if kind == "Shapes":
        return _shapes(value)
    if kind.startswith("tuple"):
        if not all(isinstance(part, str) for part in value):
            raise ValueError(f"{name} is {value!r}, not a list of texts")
        return tuple(value)
    return value


def _shapes(value: dict[str, Any]) -> Shapes:
    sizes = [value[key] for key in ("least", "best", "most")]
    numbers = [number for size in sizes for number in size] + [value["batch"]]
    if any(len(size) != 2 for size in sizes) or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise ValueError(f"shapes is {value!r}, not three sizes and a batch")
    least, best, most = ((width, height) for width, height in sizes)
    return Shapes(least, best, most, value["batch"])


def sha256(content: bytes) -> str:
    """The hash as manifests hold it."""
    return hashlib.sha256(content).hexdigest()


def manifest_path(plan: Path) -> Path:
    """The sidecar of a plan: ``NAME.plan`` has ``NAME.plan.json``."""
    return plan.with_name(f"{plan.name}.json")


def graph_path(plan: Path) -> Path:
    """The converted graph that a plan was compiled from; not needed to run it."""
    return plan.with_name(f"{plan.name}.onnx")


def read_manifest(plan: Path) -> Manifest:
    """The manifest of a plan; raises :class:`EngineError` where there is none or it is damaged."""
    path = manifest_path(plan)
    try:
        return Manifest.parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        if not plan.exists():
            raise EngineError(
                f"{plan}: there is no such engine; 'fusepipe list-engines' shows those there are"
            ) from error
        raise EngineError(
            f"{plan}: has no manifest ({path.name}), so nothing is known of it; plans are code and are only loaded "
            "with the manifest that 'fusepipe build-engine' writes beside them"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_plan(plan: Path) -> tuple[Manifest, bytes]:
    """Manifest and plan whose bytes are the proven ones; raises :class:`EngineError`.

    Reads again once where they do not belong together: another process may be replacing both.
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
    """What :func:`read_plan` says of an engine that is damaged, empty for a whole one."""
    try:
        read_plan(plan)
    except EngineError as error:
        return str(error)
    return ""


def rebuild_line(manifest: Manifest) -> str:
    """What to do about an engine that does not fit."""
    return f"build it again: {manifest.rebuild or 'fusepipe build-engine'}"


def misfit(manifest: Manifest, *, library_version: str, onnx_sha256: str | None, sm: str = "", device: str = "") -> str:
    """Why an engine cannot run here, empty where it can.

    ``onnx_sha256`` is the network as it is now, ``None`` where that is not known; ``sm`` is this GPU's
    architecture (``SM89``), empty without a GPU. ``device`` is its name, which plain TensorRT's plans need.
    """
    if onnx_sha256 is not None and manifest.onnx_sha256 != onnx_sha256:
        return f"it was built from other weights ({manifest.onnx_sha256[:12]}, now {onnx_sha256[:12]})"
    portable = manifest.options.get("version_compatible") or manifest.backend == "openvino"
    if manifest.library_version != library_version and not portable:
        return f"it was built by {manifest.library} {manifest.library_version}, here is {library_version}"
    if sm and manifest.backend == "tensorrt-rtx" and not rtx_runs_on(sm):
        return f"TensorRT-RTX does not run on GPUs of architecture {sm}, plain TensorRT does (--backend tensorrt)"
    if sm and manifest.targets and sm not in manifest.targets:
        return f"it was built for {', '.join(manifest.targets)}, this GPU is {sm}"
    if device and manifest.backend == "tensorrt" and manifest.device != device:
        return f"it was built on {manifest.device}, this is {device}"
    return ""
