"""Registry of models and backends: names to lazy import strings.

To add one, add a line here; nothing is imported until the name is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from fusepipe.core.errors import UsageError
from fusepipe.core.suggest import did_you_mean

if TYPE_CHECKING:
    from fusepipe.core.fuser import Fuser


class FuserFactory(Protocol):
    """Makes the fuser of a model by name, as :func:`fusepipe.engines.load.load_model` does."""

    def __call__(
        self,
        model: str,
        backend: str = "auto",
        precision: str = "auto",
        engine: str | None = None,
        device: str | None = None,
    ) -> Fuser: ...


class BackendFactory(Protocol):
    """Makes the fuser of an ONNX network on a backend that runs it without a build; ``reason`` is for its info."""

    def __call__(self, model: str, onnx: bytes, precision: str = "auto", *, reason: str = "") -> Fuser: ...


def network_shipped(network: str) -> bool:
    """Whether the ONNX file of a network is part of this installation."""
    return (files("fusepipe.engines") / "weights" / f"{network}.onnx").is_file()


# The paper's network, and its ablations without dense connections, attention or skips, where trained.
_PAPER = tuple(n for n in ("mfe", "mfe-without-d", "mfe-without-a", "mfe-without-s") if network_shipped(n))

# model -> network with the same inputs whose output is its attention map (white: infrared dominates)
ATTENTION: Mapping[str, str] = {name: f"{name}-attention" for name in _PAPER if network_shipped(f"{name}-attention")}

_NETWORK, _RULE = "fusepipe.engines.load:load_model", "fusepipe.evaluation.baselines.load:load_baseline"

# model name -> "module:factory"; the factory is a FuserFactory.
MODELS: Mapping[str, str] = {
    "stream": _NETWORK,
    "stream-hq": _NETWORK,
    "mean": _RULE,
    "max": _RULE,
    "pyramid": _RULE,
    "cbf": _RULE,
    "gtf": _RULE,
    "jsrsd": _RULE,
    "densefuse": _NETWORK,
    "densefuse-l1": _NETWORK,
    "fusiongan": _NETWORK,
    "ddcgan": _NETWORK,
    **dict.fromkeys(_PAPER, _NETWORK),
}

# Neural networks among them: these have a backend and a precision.
NETWORKS = frozenset((*(name for name, made in MODELS.items() if made == _NETWORK), *ATTENTION.values()))

BACKENDS: Mapping[str, str] = {
    "openvino": "fusepipe.engines.backends.openvino.fuser:OpenVinoFuser",
    "tensorrt": "fusepipe.engines.backends.tensorrt.runtime:open_plan",
    "tensorrt-rtx": "fusepipe.engines.backends.tensorrt.runtime:open_plan",
    "torch": "fusepipe.engines.backends.torch.fuser:TorchFuser",
}

# Backends that `fusepipe build-engine` builds for; the first also runs shipped networks without a build.
BUILDERS = ("openvino", "tensorrt", "tensorrt-rtx")

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")


def model_factory(model: str) -> FuserFactory:
    """The factory of a model by name; raises :class:`UsageError` that names the nearest."""
    if model not in MODELS:
        raise UsageError(f"there is no model {model!r}: {did_you_mean(model, MODELS)}")
    factory: FuserFactory = _attribute(MODELS[model])
    return factory


def backend_factory(backend: str) -> BackendFactory:
    """The factory of a backend that runs networks without a build; raises ``ImportError`` where its package is missing.

    Those of :data:`BACKENDS` that run built plans only are opened by :mod:`fusepipe.engines.load`.
    """
    factory: BackendFactory = _attribute(BACKENDS[backend])
    return factory


def _attribute(path: str) -> Any:
    """Imports ``package.module:attribute``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
