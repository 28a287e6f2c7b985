"""The line under the delays is the edge of the lower convex hull at the mean media time, found without the hull."""

import random
from itertools import combinations

import numpy as np
import pytest

from fusepipe.pipeline.pairing.clock_model import BIN_NS, WINDOW_BINS, ClockModel, slope_under_mean

MS = 1_000_000


def edge_slope(points):
    """By trying all pairs: the line that is highest at the mean x of those that lie below all points."""
    mean_x = sum(x for x, _ in points) / len(points)
    found = []
    for (x0, y0), (x1, y1) in combinations(points, 2):
        slope = (y1 - y0) / (x1 - x0)
        if all(y - y0 - slope * (x - x0) > -1e-6 for x, y in points):
            found.append((y0 + slope * (mean_x - x0), slope))
    return max(found)[1]


@pytest.mark.parametrize("guess", [0.0, 1e-3, -5.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_edge_is_that_of_the_hull_whatever_slope_the_search_begins_with(seed, guess):
    rng = random.Random(seed)
    points = [(float(x), rng.choice([1.0, 30.0]) * rng.random() + 0.3 * x) for x in rng.sample(range(1000), 25)]
    x, y = (np.array(values) for values in zip(*points, strict=True))
    assert slope_under_mean(x, y, guess) == pytest.approx(edge_slope(points), abs=1e-12)


def test_a_full_window_forgets_its_oldest_half_second_and_keeps_the_skew():
    """Times that a double cannot hold to the nanosecond, as of a camera that sends the time of day."""
    step_ns = BIN_NS + 4 * MS  # each frame ends a half second
    model, zero_ns, rng = ClockModel(), 1_700_000_000_000_000_123, random.Random(3)
    for number in range(WINDOW_BINS + 40):
        host_ns = number * step_ns
        media_ns = zero_ns + host_ns + host_ns * 200 // 1_000_000
        model.observe(media_ns, host_ns + 10 * MS + rng.randint(0, 3 * MS))
    assert model.span_ns == pytest.approx((WINDOW_BINS - 1) * step_ns, rel=1e-3)
    assert model.estimate().skew_ppm == pytest.approx(200, abs=20)
    assert model.host_ns(media_ns) - host_ns == pytest.approx(10 * MS, abs=MS)
