"""Opens a :class:`fusepipe.core.fuser.Fuser` by the names of model, backend, precision and engine."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.fuser import Fuser
from fusepipe.core.models import BACKENDS, MODELS, NETWORKS, PRECISIONS, backend_factory
from fusepipe.core.suggest import did_you_mean
from fusepipe.engines import choose, store
from fusepipe.engines.backends.cuda.api import Gpu, open_cuda
from fusepipe.engines.cpu_fallback import CpuFallbackFuser
from fusepipe.engines.fit import why_misfit
from fusepipe.engines.manifest import Manifest, read_plan, rebuild_line, sha256

_LOG = logging.getLogger(__name__)
# backend -> the command that installs its packages
_INSTALL = {
    "openvino": "pip install openvino",
    "torch": "pip install 'fusepipe[train]'",
    "tensorrt": "pip install 'fusepipe[tensorrt,cuda]'",
    "tensorrt-rtx": "pip install 'fusepipe[tensorrt-rtx,cuda]'",
}
_GPU = ("tensorrt", "tensorrt-rtx")
_SMALL = (64, 64)  # height, width


def read_onnx(model: str) -> bytes:
    """The ONNX file of a network that ships with fusepipe."""
    content = _shipped(f"{model}.onnx")
    if content is None:
        file = resources.files("fusepipe.engines") / "weights" / f"{model}.onnx"
        raise EngineError(f"the weights of {model!r} are missing from this installation ({file}): reinstall fusepipe")
    return content


def read_int8(model: str) -> bytes | None:
    """The int8 network for CPUs; ``None`` for networks that ship without one."""
    return _shipped(f"{model}.int8.onnx")


def _shipped(name: str) -> bytes | None:
    try:
        return (resources.files("fusepipe.engines") / "weights" / name).read_bytes()
    except OSError:
        return None


def load_model(
    model: str,
    backend: str = "auto",
    precision: str = "auto",
    engine: str | None = None,
    device: str | None = None,
) -> Fuser:
    """Opens the network ``model`` on a backend; see ``fusepipe.core.models`` for the names.

    ``engine`` is the path of a built engine; the other names must not contradict it. Without a path, engines are
    looked up in the cache. ``auto`` selects the fastest available backend and precision; the fuser's ``info.reason``
    says which and why. Nothing is built. ``device`` is the index or UUID of the GPU, the first one if ``None``.

    Raises :class:`UsageError` for unknown names and :class:`EngineError` for a backend, precision or engine that this
    machine does not have.
    """
    if model not in NETWORKS:
        raise UsageError(f"unknown network {model!r}: {did_you_mean(model, sorted(NETWORKS))}")
    if backend != "auto" and backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: {did_you_mean(backend, ['auto', *BACKENDS])}")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: {did_you_mean(precision, PRECISIONS)}")
    if engine is not None:
        return _load_engine(Path(engine), model, backend, precision, device)
    if backend == "auto":
        return _auto(model, precision, device)
    if backend in _GPU:
        return _on_gpu(model, backend, precision, device)
    if backend == "torch" and (device is not None or precision == "fp16"):
        return _torch_on_gpu(model, precision, device)
    if device is not None:
        raise UsageError(f"openvino runs on the CPU: {device = } does not apply; remove it")
    if backend == "openvino":
        return _on_cpu(model, precision, "asked for")
    return _make(backend, model, read_onnx(model), precision, "asked for")


def _auto(model: str, precision: str, device: str | None) -> Fuser:
    gpu, why_not = choose.gpu_here(device)
    choice = choose.gpu_backend(gpu, why_not)
    if gpu is not None and choice.name == "torch" and precision in ("auto", "fp32", "fp16"):
        return _auto_torch(model, precision, gpu, choice.reason)
    if gpu is None or choice.name not in _GPU:
        return _on_cpu(model, precision, choice.reason)
    found = _cached(model, choice.name, precision, device)
    if found is None:
        how = f"fusepipe build-engine --model {model} builds one"
        return _on_cpu(model, precision, f"auto: no engine for {gpu.name} ({how})")
    try:
        proven = _proven(_open(*found, gpu, reason=choice.reason), found[1])
        return CpuFallbackFuser(proven, lambda why: _on_cpu(model, precision, why))
    except EngineError as error:
        _LOG.warning("the engine %s does not run on %s, using the CPU instead: %s", found[0], gpu.name, error)
        return _on_cpu(model, precision, f"auto: the engine {found[0].name} does not run on {gpu.name} ({error})")


def _auto_torch(model: str, precision: str, gpu: Gpu, reason: str) -> Fuser:
    try:
        fuser = _open_torch(model, precision, gpu, reason)
        try:
            fuser.prepare(*_SMALL)
        except BaseException:
            fuser.close()
            raise
    except EngineError as error:
        _LOG.warning("PyTorch does not run %s on %s, using the CPU instead: %s", model, gpu.name, error)
        return _on_cpu(model, precision, f"auto: PyTorch does not run it on {gpu.name} ({error})")
    return CpuFallbackFuser(fuser, lambda why: _on_cpu(model, precision, why))


def _torch_on_gpu(model: str, precision: str, device: str | None) -> Fuser:
    gpu, why_not = choose.gpu_here(device)
    if gpu is None:
        raise EngineError(f"the backend torch is fp32 on the CPU, and no GPU can be used: {why_not}")
    return _open_torch(model, precision, gpu, "asked for")


def _open_torch(model: str, precision: str, gpu: Gpu, reason: str) -> Fuser:
    try:
        from fusepipe.engines.backends.torch.captured import TorchCudaFuser
    except ImportError as error:
        raise EngineError(f"the backend 'torch' cannot be imported ({error}): {_INSTALL['torch']}") from error
    return TorchCudaFuser(model, read_onnx(model), precision, reason=reason, device=f"cuda:{gpu.index}")


def _proven(fuser: Fuser, manifest: Manifest) -> Fuser:
    """The fuser after preparing its smallest size, which loads its kernels and takes its memory; closed on failure."""
    width, height = manifest.shapes.min
    try:
        fuser.prepare(height, width)
    except BaseException:
        fuser.close()
        raise
    return fuser


def _on_gpu(model: str, backend: str, precision: str, device: str | None) -> Fuser:
    """The engine of the cache, for a backend that was asked for."""
    gpu, why_not = choose.gpu_here(device)
    found = _cached(model, backend, precision, device)
    if found is not None:
        return _open(*found, gpu, reason="asked for")
    why = why_not if gpu is None else choose.misfit_of_packages(backend, gpu)
    asked = "" if precision == "auto" else f" --precision {precision}"
    raise EngineError(
        f"no {backend} engine of {model} fits this machine: "
        + (f"{why}; " if why else "")
        + f"fusepipe build-engine --model {model} --backend {backend}{asked}"
    )


def _on_cpu(model: str, precision: str, reason: str) -> Fuser:
    """OpenVINO with the shipped fp32 network; for int8 an engine of the cache, or else the shipped int8 network."""
    if precision == "auto" and (feature := choose.fast_int8()) and read_int8(model) is not None:
        precision, reason = "int8", f"{reason}; int8: {feature} makes it fast on this CPU"
    if precision != "int8":
        return _make("openvino", model, read_onnx(model), precision, reason)
    found = _cached(model, "openvino", "int8")
    if found is not None:
        return _open(*found, None, reason=reason)
    quantised = read_int8(model)
    if quantised is None:
        raise EngineError(
            f"{model} ships without an int8 network: fusepipe build-engine --model {model} --backend openvino "
            "--precision int8"
        )
    return _make("openvino", model, quantised, "int8", reason)


def _make(backend: str, model: str, onnx: bytes, precision: str, reason: str) -> Fuser:
    try:
        factory = backend_factory(backend)
    except ImportError as error:
        raise EngineError(f"the backend {backend!r} cannot be imported ({error}): {_INSTALL[backend]}") from error
    return factory(model, onnx, precision, reason=reason)


# -- built engines


def _cached(model: str, backend: str, precision: str, device: str | None = None) -> tuple[Path, Manifest, bytes] | None:
    """The newest engine of the cache that fits; damaged ones and those for other machines are skipped."""
    current = sha256(read_onnx(model))
    for entry in store.find_engines(model, backend, precision, current):
        try:
            manifest, content = read_plan(entry.plan)
        except EngineError:
            continue
        if not why_misfit(manifest, current, device):
            return entry.plan, manifest, content
    return None


def _load_engine(plan: Path, model: str, backend: str, precision: str, device: str | None) -> Fuser:
    manifest, content = read_plan(plan)
    for option, asked, actual in (
        # the name of a user's own network cannot contradict one of ours
        ("model", model, manifest.model if manifest.model in MODELS else model),
        ("backend", backend, manifest.backend),
        ("precision", precision, manifest.achieved_precision),
    ):
        if asked not in ("auto", actual):
            raise UsageError(f"{plan}: is an engine of {option} {actual}, not {asked}; give --{option} {actual}")
    current = sha256(read_onnx(manifest.model)) if manifest.model in NETWORKS else None
    why = why_misfit(manifest, current, device)
    if why:
        raise EngineError(f"{plan}: does not fit here: {why}; {rebuild_line(manifest)}")
    if manifest.backend not in _GPU:
        return _open(plan, manifest, content, None, reason=f"the engine {plan}")
    gpu, why = choose.gpu_here(device)
    if gpu is None:
        raise EngineError(f"{plan}: no GPU can be used: {why}")
    return _open(plan, manifest, content, gpu, reason=f"the engine {plan}")


def _open(plan: Path, manifest: Manifest, content: bytes, gpu: Gpu | None, *, reason: str) -> Fuser:
    if manifest.backend in _GPU:
        index = gpu.index if gpu is not None else 0
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
            cuda=lambda: open_cuda(device=index),
        )
        return fuser
    return _make(manifest.backend, manifest.model, content, manifest.achieved_precision, f"{reason} ({plan.name})")
