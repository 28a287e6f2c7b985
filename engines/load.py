"""From the three names - model, backend, precision - to a :class:`fusepipe.fuser.Fuser`."""

from __future__ import annotations

from importlib import resources

from fusepipe.errors import EngineError, UsageError
from fusepipe.fuser import Fuser
from fusepipe.registry import BACKENDS, NETWORKS, PRECISIONS, nearest, resolve

# backend -> the line that installs what it needs
_INSTALL = {"openvino": "pip install openvino"}


def read_onnx(model: str) -> bytes:
    """The ONNX file of a network that ships with fusepipe."""
    file = resources.files("fusepipe.engines") / "weights" / f"{model}.onnx"
    try:
        return file.read_bytes()
    except OSError as error:
        raise EngineError(
            f"the weights of {model!r} are missing from this installation ({file}): reinstall fusepipe"
        ) from error


def load_model(model: str, backend: str = "auto", precision: str = "auto", engine: str | None = None) -> Fuser:
    """The shipped network ``model`` on a backend; see ``fusepipe.registry`` for the names.

    ``auto`` takes the best that answers; the fuser's ``info.reason`` says which and why. Raises
    :class:`UsageError` for names that do not exist and :class:`EngineError` for a backend or a
    precision that this machine does not have.
    """
    if model not in NETWORKS:
        raise UsageError(f"there is no network {model!r}: {nearest(model, sorted(NETWORKS))}")
    if backend != "auto" and backend not in BACKENDS:
        raise UsageError(f"there is no backend {backend!r}: {nearest(backend, ['auto', *BACKENDS])}")
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}: {nearest(precision, PRECISIONS)}")
    if engine is not None:
        raise UsageError(f"built engines ({engine!r}) are not available yet: leave --engine out")
    chosen, reason = backend, "asked for"
    if backend == "auto":
        chosen, reason = "openvino", "auto: the only backend in this version"
    try:
        factory = resolve(BACKENDS[chosen])
    except ImportError as error:
        fix = _INSTALL.get(chosen, f"install {chosen}")
        raise EngineError(f"the backend {chosen!r} cannot be imported ({error}): {fix}") from error
    fuser: Fuser = factory(model, read_onnx(model), precision, reason=reason)
    return fuser
