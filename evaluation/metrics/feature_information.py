"""FMI: mutual information of features, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Real, require_luma

Feature = Literal["gradient", "pixel"]

FMI_MINIMUM_PX = 3
# Windows of 3x3 hold nine samples; their positions 1..9 run down the columns, as in MATLAB.
SAMPLES = 9
# Windows handled together: as many as keep the arrays in the processor's cache.
CHUNK = 4096
POSITIONS = np.arange(1.0, SAMPLES + 1.0)
# Below this an entropy, spread or covariance is rounding.
TINY = 1e-12
# Added before a logarithm that a zero takes away again.
NOTHING = 1e-300


def fmi(ir: Luma8, vis: Luma8, fused: Luma8, feature: Feature = "gradient") -> float:
    """FMI = mean over 3x3 windows of (I'(IR; F) + I'(VIS; F)) / 2, HxW uint8 images of at least 3x3.

    I' = 2 I / (H(p) + H(q)). In each window the feature, stretched to 0..1 and divided by its sum, *is* the
    distribution p over the positions 1..9. The joint distribution is theta C + (1 - theta) p q with C the
    Frechet bound (upper where p and q correlate positively, lower where not) and theta their correlation
    over that of the bound. ``gradient``: magnitude of central differences; ``pixel``: grey levels. Range 0
    to about 1, higher is better. Identical windows count 1, windows without information 0: F = IR = VIS
    gives 1, also where constant. Source: Haghighat, Aghagolzadeh, Seyedarabi, "A non-reference image fusion
    metric based on mutual information of image features", Computers & Electrical Engineering 37(5), 2011.
    Public code takes only the horizontal difference for ``gradient`` and gives other values.
    """
    require_luma(FMI_MINIMUM_PX, ir=ir, vis=vis, fused=fused)
    if feature not in ("gradient", "pixel"):
        raise UsageError(f"unknown feature {feature!r}; known: gradient, pixel")
    feature_i, feature_v, feature_f = (_feature(image, feature) for image in (ir, vis, fused))
    height, width = fused.shape[0] - 2, fused.shape[1] - 2
    rows = max(CHUNK // width, 1)
    total = 0.0
    for top in range(0, height, rows):
        band = slice(top, top + rows + 2)
        of_fused = _Windows(feature_f[band])
        total += of_fused.information(_Windows(feature_i[band])) + of_fused.information(_Windows(feature_v[band]))
    return total / float(2 * height * width)


def _feature(image: Luma8, feature: Feature) -> Real:
    pixels = image.astype(np.float64)
    if feature == "pixel":
        return pixels
    gy, gx = np.gradient(pixels)
    magnitude: Real = np.sqrt(gx * gx + gy * gy)
    return magnitude


class _Windows:
    """The distributions of all 3x3 windows of a band of rows: 9xN arrays, the nine down the columns.

    ``p``: the window stretched to 0..1 and divided by its sum, uniform where flat. ``log_p``: its
    logarithm, 0 where p is 0. ``entropy``: nats. ``spread``: standard deviation of the position 1..9.
    """

    def __init__(self, feature: Real) -> None:
        height, width = feature.shape[0] - 2, feature.shape[1] - 2
        self.raw = np.stack([feature[y : y + height, x : x + width].ravel() for x in range(3) for y in range(3)])
        low, high = self.raw.min(axis=0), self.raw.max(axis=0)
        flat = low == high
        p = self.raw - low
        p[:, flat] = 1.0
        p /= p.sum(axis=0)
        self.p: Real = p
        self.log_p: Real = np.zeros_like(p)
        np.log(p, out=self.log_p, where=p > 0)
        self.entropy: Real = -np.sum(p * self.log_p, axis=0)
        self.mean: Real = POSITIONS @ p
        self.spread: Real = np.sqrt(np.maximum((POSITIONS * POSITIONS) @ p - self.mean * self.mean, 0.0))
        self.centred: Real = p - 1.0 / SAMPLES
        self.power: Real = np.sum(self.centred * self.centred, axis=0)

    def information(self, other: _Windows) -> float:
        """Sum over the windows of the normalised mutual information with another image's."""
        power = np.sqrt(self.power * other.power)
        correlation = np.sum(self.centred * other.centred, axis=0) / np.where(power > 0, power, 1.0)
        # the lower bound of p and q is the upper bound of p and reversed q, in cells reversed along q
        opposed = correlation < 0
        q = np.where(opposed, other.p[::-1], other.p)
        log_q = np.where(opposed, other.log_p[::-1], other.log_p)
        pieces = _staircase((self.p, self.log_p), (q, log_q))
        other_mean = np.where(opposed, SAMPLES + 1.0 - other.mean, other.mean)
        covariance = pieces.position_product - self.mean * other_mean
        spreads = self.spread * other.spread
        known = (covariance > TINY) & (spreads > TINY)
        theta = np.where(known, np.abs(correlation) * spreads / np.where(known, covariance, 1.0), 0.0)
        marginal = self.entropy + other.entropy
        joint = _joint_entropy(pieces, theta, marginal)
        informed = marginal > TINY
        value = np.where(informed, 2.0 * (marginal - joint) / np.where(informed, marginal, 1.0), 0.0)
        value[np.all(self.raw == other.raw, axis=0)] = 1.0
        return float(np.sum(value))


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """The Frechet upper bound of N pairs of distributions, in the 17 cells a pair that can hold mass.

    ``mass``, ``product`` (p q) and its logarithm are 17xN; ``position_product``: N means of position times position.
    """

    mass: Real
    product: Real
    log_product: Real
    position_product: Real


def _staircase(p: tuple[Real, Real], q: tuple[Real, Real]) -> _Pieces:
    """Walks along the unit interval, which p cuts at its cumulated sums and q at its own.

    Between two neighbouring cuts the bound puts the length of that piece into one cell; each cut moves on
    to p's next sample or to q's, so that 17 steps pass all 18 samples. ``p`` and ``q`` come with their
    logarithms.
    """
    count = p[0].shape[1]
    cuts_p, cuts_q = np.cumsum(p[0], axis=0), np.cumsum(q[0], axis=0)
    # no cut may stop the walk before the other's last sample, whatever rounding did to the sums
    cuts_p[-1] = cuts_q[-1] = 1.0
    lane = np.arange(count)
    last = (SAMPLES - 1) * count + lane
    steps = 2 * SAMPLES - 1
    mass, product, log_product = (np.empty((steps, count)) for _ in range(3))
    position_product = np.zeros(count)
    i, j = lane.copy(), lane.copy()
    positions = np.ones((2, count))
    reached = np.zeros(count)
    for step in range(steps):
        np.multiply(p[0].take(i), q[0].take(j), out=product[step])
        np.add(p[1].take(i), q[1].take(j), out=log_product[step])
        cut_p, cut_q = cuts_p.take(i), cuts_q.take(j)
        cut = np.minimum(cut_p, cut_q)
        np.subtract(cut, reached, out=mass[step])
        reached = cut
        position_product += mass[step] * positions[0] * positions[1]
        along_p = cut_p <= cut_q
        along_q = ~along_p
        positions[0] += along_p
        positions[1] += along_q
        i += along_p * count
        j += along_q * count
        np.minimum(i, last, out=i)
        np.minimum(j, last, out=j)
    return _Pieces(mass, product, log_product, position_product)


def _joint_entropy(pieces: _Pieces, theta: Real, marginal: Real) -> Real:
    """Entropy -sum J log |J| of J = theta C + (1 - theta) p q, nats; ``marginal`` is H(p) + H(q).

    Over all 81 cells the product part has the closed form (1 - theta)(H(p) + H(q) - log |1 - theta|);
    only the cells of the staircase differ from it. theta may exceed 1, which makes some J negative: the
    published code keeps the real part, which is log |J|.
    """
    rest = 1.0 - theta
    log_rest = np.log(np.abs(rest) + NOTHING)
    product = pieces.product * rest
    cell = pieces.mass * theta
    cell += product
    product *= pieces.log_product + log_rest
    cell *= np.log(np.abs(cell) + NOTHING)
    product -= cell
    joint: Real = rest * (marginal - log_rest) + np.sum(product, axis=0)
    return joint
