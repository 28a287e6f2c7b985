"""Loads a classical method as a fuser, by name.

``mean``, ``max`` and ``pyramid`` are rules for video; ``cbf``, ``gtf`` and ``jsrsd`` are the classical
methods of the paper's comparison, far from real time. None needs weights or an engine, so that they also
run where no network can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FunctionFuser, Fuser, FuserInfo
from fusepipe.core.suggest import did_you_mean
from fusepipe.evaluation.baselines.cbf import cbf
from fusepipe.evaluation.baselines.gtf import gtf
from fusepipe.evaluation.baselines.jsrsd import jsrsd
from fusepipe.evaluation.baselines.laplacian_pyramid import pyramid
from fusepipe.evaluation.baselines.trivial import maximum, mean

# model -> (backend, function)
_RULES: Mapping[str, tuple[str, Callable[[Luma8, Luma8], Luma8]]] = {
    "mean": ("numpy", mean),
    "max": ("numpy", maximum),
    "pyramid": ("opencv", pyramid),
    "cbf": ("numpy", cbf),
    "gtf": ("numpy", gtf),
    "jsrsd": ("numpy", jsrsd),
}


def load_baseline(
    model: str,
    backend: str = "auto",
    precision: str = "auto",
    engine: str | None = None,
    device: str | None = None,
) -> Fuser:
    """The fuser of a classical rule by name: ``mean``, ``max``, ``pyramid``, ``cbf``, ``gtf`` or ``jsrsd``.

    A rule has one implementation, so that ``backend`` is ``auto`` or the rule's own, ``precision``
    ``auto`` or ``uint8``, ``engine`` and ``device`` ``None``. Raises :class:`UsageError` for anything else.
    """
    if model not in _RULES:
        raise UsageError(f"unknown baseline {model!r}: {did_you_mean(model, _RULES)}")
    own_backend, function = _RULES[model]
    if backend not in ("auto", own_backend):
        raise UsageError(f"the model {model!r} is a rule without a network: {backend = } does not apply; remove it")
    if precision not in ("auto", "uint8"):
        raise UsageError(f"the model {model!r} is a rule on 8-bit pixels: {precision = } does not apply; remove it")
    if engine is not None:
        raise UsageError(f"the model {model!r} is a rule without an engine: {engine = } does not apply; remove it")
    if device is not None:
        raise UsageError(f"the model {model!r} is a rule that runs on the CPU: {device = } does not apply; remove it")
    info = FuserInfo(model=model, backend=own_backend, precision="uint8", reason="the rule's only implementation")
    return FunctionFuser(info, function)
