"""From the names - model, backend, precision, engine - to a :class:`fusepipe.core.fuser.Fuser`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.fuser import Fuser
from fusepipe.core.models import BACKENDS, MODELS, NETWORKS, PRECISIONS, resolve
from fusepipe.core.suggest import did_you_mean
from fusepipe.engines import choose, store
from fusepipe.engines.manifest import Manifest, misfit, read_plan, rebuild_line, sha256

# backend -> the line that installs what it needs
_INSTALL = {
    "openvino": "pip install openvino",
    "torch": "pip install 'fusepipe[train]'",
    "tensorrt": "pip install 'fusepipe[tensorrt,cuda]'",
    "tensorrt-rtx": "pip install 'fusepipe[tensorrt-rtx,cuda]'",
}
_GPU = ("tensorrt", "tensorrt-rtx")


def read_onnx(model: str) -> bytes:
    """The ONNX file of a network that ships with fusepipe."""
    content = _shipped(f"{model}.onnx")
    if content is None:
        file = resources.files("fusepipe.engines") / "weights" / f"{model}.onnx"
        raise EngineError(f"the weights of {model!r} are missing from this installation ({file}): reinstall fusepipe")
    return content


def read_int8(model: str) -> bytes | None:
    """The network quantised for CPUs, for the networks that ship with one."""
    return _shipped(f"{model}.int8.onnx")


def _shipped(name: str) -> bytes | None:
    try:
        return (resources.files("fusepipe.engines") / "weights" / name).read_bytes()
    except OSError:
        return None


def load_model(model: str, backend: str = "auto", precision: str = "auto", engine: str | None = None) -> Fuser:
    """The network ``model`` on a backend; see ``fusepipe.core.models`` for the names.

    ``engine`` is the path of a built engine, which then decides; what else is named has to agree with it.
    Without it, engines are looked up in the cache. ``auto`` takes the best that answers; the fuser's
    ``info.reason`` says which and why. Nothing is built here.

    Raises :class:`UsageError` for names that do not exist and :class:`EngineError` for a backend, a precision
    or an engine that this machine does not have.
    """
    if model not in NETWORKS:
        raise UsageError(f"there is no network {model!r}: {did_you_mean(model, sorted(NETWORKS))}")
    if backend != "auto" and backend not in BACKENDS:
        raise UsageError(f"there is no backend {backend!r}: {did_you_mean(backend, ['auto', *BACKENDS])}")
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}: {did_you_mean(precision, PRECISIONS)}")
    if engine is not None:
        return _load_engine(Path(engine), model, backend, precision)
    if backend == "auto":
        return _auto(model, precision)
    if backend in _GPU:
        found = _cached(model, backend, precision)
        if found is None:
            asked = "" if precision == "auto" else f" --precision {precision}"
            raise EngineError(
                f"there is no {backend} engine of {model} that fits this machine: "
                f"fusepipe build-engine --model {model} --backend {backend}{asked}"
            )
        return _open(*found, reason="asked for")
    if backend == "openvino":
        return _on_cpu(model, precision, "asked for")
    return _make(backend, model, read_onnx(model), precision, "asked for")


def _auto(model: str, precision: str) -> Fuser:
    gpu, why_not = choose.gpu_here()
    choice = choose.gpu_backend(gpu, why_not)
    if choice.name in _GPU:
        found = _cached(model, choice.name, precision)
        if found is not None:
            return _open(*found, reason=choice.reason)
        how = f"fusepipe build-engine --model {model} makes the GPU usable"
        return _on_cpu(model, precision, f"auto: no engine for {gpu.name if gpu else 'the GPU'} is built ({how})")
    return _on_cpu(model, precision, choice.reason)


def _on_cpu(model: str, precision: str, reason: str) -> Fuser:
    """OpenVINO with the shipped network, or for int8 the shipped quantised one or an engine from the cache."""
    if precision == "auto" and (feature := choose.fast_int8()) and read_int8(model) is not None:
        precision, reason = "int8", f"{reason}; int8: {feature} makes it fast on this CPU"
    if precision != "int8":
        return _make("openvino", model, read_onnx(model), precision, reason)
    found = _cached(model, "openvino", "int8")
    if found is not None:
        return _open(*found, reason=reason)
    quantised = read_int8(model)
    if quantised is None:
        raise EngineError(
            f"{model} ships without an int8 network: fusepipe build-engine --model {model} --backend openvino "
            "--precision int8"
        )
    return _make("openvino", model, quantised, "int8", reason)


def _make(backend: str, model: str, onnx: bytes, precision: str, reason: str) -> Fuser:
    try:
        factory = resolve(BACKENDS[backend])
    except ImportError as error:
        raise EngineError(f"the backend {backend!r} cannot be imported ({error}): {_INSTALL[backend]}") from error
    fuser: Fuser = factory(model, onnx, precision, reason=reason)
    return fuser


# -- built engines


def _cached(model: str, backend: str, precision: str) -> tuple[Path, Manifest, bytes] | None:
    """The newest engine of the cache that fits; damaged ones and those of other machines are passed over."""
    current = sha256(read_onnx(model))
    for entry in store.find(model, backend, precision, current):
        try:
            manifest, content = read_plan(entry.plan)
        except EngineError:
            continue
        if not _misfit(manifest, current):
            return entry.plan, manifest, content
    return None


def _load_engine(plan: Path, model: str, backend: str, precision: str) -> Fuser:
    manifest, content = read_plan(plan)
    if manifest.backend not in BACKENDS:
        raise EngineError(f"{plan}: is for the backend {manifest.backend!r}, which this fusepipe does not have")
    for option, asked, held in (
        # a network of the user's own has no name here that could contradict
        ("model", model, manifest.model if manifest.model in MODELS else model),
        ("backend", backend, manifest.backend),
        ("precision", precision, manifest.achieved_precision),
    ):
        if asked not in ("auto", held):
            raise UsageError(
                f"{plan}: is an engine of {option} {held}, and {asked} is asked for; give --{option} {held}"
            )
    current = sha256(read_onnx(manifest.model)) if manifest.model in NETWORKS else None
    why = _misfit(manifest, current)
    if why:
        raise EngineError(f"{plan}: does not fit here: {why}; {rebuild_line(manifest)}")
    return _open(plan, manifest, content, reason=f"the engine {plan}")


def _misfit(manifest: Manifest, onnx_sha256: str | None) -> str:
    from fusepipe.engines.builder.building import library_version

    _, version = library_version(manifest.backend)
    gpu = choose.gpu_here()[0] if manifest.backend in _GPU else None
    sm, device = (gpu.sm, gpu.name) if gpu else ("", "")
    return misfit(manifest, library_version=version, onnx_sha256=onnx_sha256, sm=sm, device=device)


def _open(plan: Path, manifest: Manifest, content: bytes, *, reason: str) -> Fuser:
    if manifest.backend in _GPU:
        try:
            from fusepipe.engines.backends.tensorrt.runtime import open_plan
        except ImportError as error:
            raise EngineError(f"{error}: {_INSTALL[manifest.backend]}") from error
        fuser: Fuser = open_plan(
            manifest.model,
            manifest.backend,
            manifest.achieved_precision,
            content,
            manifest.shapes,
            multiple=manifest.multiple,
            warp=manifest.warp,
            version_compatible=bool(manifest.options.get("version_compatible")),
            reason=reason,
        )
        return fuser
    return _make(manifest.backend, manifest.model, content, manifest.achieved_precision, f"{reason} ({plan.name})")
