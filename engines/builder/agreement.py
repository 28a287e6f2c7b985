"""Agreement of an engine with the fp32 network: image comparison, and one tolerance table for all precisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusepipe.core.errors import EngineError
from fusepipe.core.frames import Luma8
from fusepipe.engines.verification import Agreement, Verification

# infrared, visible and fused image -> value by metric
Score = Callable[[Luma8, Luma8, Luma8], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Lowest accepted PSNR in dB over all pairs, and largest accepted difference of a pixel in grey levels."""

    psnr_db: float
    max_abs: int


# Measured on the shipped networks: fp32 differs by rounding of ties, fp16 63 to 70 dB, bf16 52 to 60 dB, int8 47 to
# 55 dB with single pixels 25 levels off. A wrong scale or a lost layer gives below 30 dB.
TOLERANCES = {
    "fp32": Tolerance(60.0, 1),
    "fp16": Tolerance(50.0, 4),
    "bf16": Tolerance(42.0, 12),
    "int8": Tolerance(36.0, 64),
}

REGISTERED = "its image of the pair registered on the CPU"
"""The reference of the comparison that shows whether an engine with the warp samples as the CPU does."""
# Measured with the warp in the graph: 97 to 100 dB in every precision; nearest-neighbour sampling gives 35 dB.
WARP_TOLERANCE = Tolerance(55.0, 8)


def measure_agreement(
    reference: str,
    pairs: Sequence[tuple[Luma8, Luma8]],
    expected: Sequence[Luma8],
    given: Sequence[Luma8],
    score: Score | None = None,
) -> Agreement:
    """Compares HxW uint8 images with the expected ones; identical images have a PSNR of 100 dB.

    ``reference`` names what computed ``expected``. ``score`` computes the fusion metrics, left out for images that are
    too small for them. Raises :class:`EngineError` if sizes differ.
    """
    error, count, largest = 0.0, 0, 0
    for a, b in zip(expected, given, strict=True):
        if a.shape != b.shape:
            raise EngineError(f"the engine returns images of {b.shape}, {reference} of {a.shape}")
        difference = a.astype(np.int32) - b
        error += float(np.square(difference).sum())
        count += difference.size
        largest = max(largest, int(np.abs(difference).max()))
    psnr_db = 100.0 if error == 0 else min(100.0, 10 * math.log10(255**2 * count / error))
    metrics: dict[str, dict[str, float]] = {}
    if score is not None:
        before = [score(ir, vis, image) for (ir, vis), image in zip(pairs, expected, strict=True)]
        after = [score(ir, vis, image) for (ir, vis), image in zip(pairs, given, strict=True)]
        # score returns nothing for an image that is too small
        for name in before[0] if all(before) else ():
            old, new = (math.fsum(row[name] for row in rows) / len(rows) for rows in (before, after))
            change = 100 * (new - old) / abs(old) if old else 0.0
            metrics[name] = {"reference": round(old, 5), "engine": round(new, 5), "change_percent": round(change, 3)}
    return Agreement(reference, len(expected), round(psnr_db, 2), largest, metrics)


def require_agreement(verification: Verification, precision: str) -> None:
    """Raises :class:`EngineError` if an agreement misses the tolerance of the precision."""
    for agreement in verification.agreements:
        limit = WARP_TOLERANCE if agreement.reference == REGISTERED else TOLERANCES[precision]
        if agreement.psnr_db < limit.psnr_db or agreement.max_abs > limit.max_abs:
            raise EngineError(
                f"the {precision} engine does not agree with {agreement.reference}: {agreement.psnr_db:.1f} dB and up "
                f"to {agreement.max_abs} grey levels, required are {limit.psnr_db:g} dB and {limit.max_abs}; "
                "nothing was kept"
            )


def require_precision(requested: str, layers: Mapping[str, str], kept_fp32: Sequence[str]) -> str:
    """The precision of all compute layers; raises :class:`EngineError` if it is not the requested one.

    ``layers`` maps node names to the precision read back from the compiled engine; layers in ``kept_fp32`` are exempt.
    """
    counted = {name: kind for name, kind in layers.items() if name not in kept_fp32}
    wrong = {name: kind for name, kind in counted.items() if kind != requested}
    if not counted:
        raise EngineError(f"asked for {requested}, but no compute layer could be read back; nothing was kept")
    if wrong:
        name, kind = next(iter(wrong.items()))
        raise EngineError(
            f"asked for {requested}, but {len(wrong)} of {len(counted)} compute layers are not ({name} is {kind}); "
            "nothing was kept"
        )
    return requested
