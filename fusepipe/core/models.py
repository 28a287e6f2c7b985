"""Registry of models and backends: names to lazy import strings.

To add one, add a line here; nothing is imported until the name is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.resources import files
from typing import Any

from fusepipe.core.errors import UsageError
from fusepipe.core.suggest import did_you_mean


def installed(network: str) -> bool:
    """Whether the ONNX file of a network is part of this installation."""
    return (files("fusepipe.engines") / "weights" / f"{network}.onnx").is_file()


# The paper's network, and its ablations without dense connections, attention or skips, where trained.
_PAPER = tuple(n for n in ("mfe", "mfe-without-d", "mfe-without-a", "mfe-without-s") if installed(n))

# model -> network with the same inputs whose output is its attention map (white: infrared dominates)
ATTENTION: Mapping[str, str] = {name: f"{name}-attention" for name in _PAPER if installed(f"{name}-attention")}

_NETWORK, _RULE = "fusepipe.engines.load:load_model", "fusepipe.evaluation.baselines.load:load_baseline"

# model name -> "module:factory"; a factory takes (backend, precision, engine) and returns a Fuser.
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
    "torch": "fusepipe.engines.backends.torch:TorchFuser",
}

# Backends that `fusepipe build-engine` builds for; the first also runs shipped networks without a build.
BUILDERS = ("openvino", "tensorrt", "tensorrt-rtx")

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")


def resolve(path: str) -> Callable[..., Any]:
    """Imports ``package.module:attribute``."""
    module, _, attribute = path.partition(":")
    target: Callable[..., Any] = getattr(import_module(module), attribute)
    return target


def model_factory(model: str) -> Callable[..., Any]:
    """The factory of a model by name; raises :class:`UsageError` that names the nearest."""
    if model not in MODELS:
        raise UsageError(f"there is no model {model!r}: {did_you_mean(model, MODELS)}")
    return resolve(MODELS[model])
