"""Moving an alignment by hand: which way, around what, and what a calibration says afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from fusepipe.calibration.file.model import make_calibration
from fusepipe.calibration.file.nudge import Nudge, nudged
from fusepipe.calibration.lens import Lens
from fusepipe.core.errors import UsageError

SIZE = (641, 481)  # its middle is pixel (320, 240)


def moved(nudge: Nudge, x: float, y: float) -> tuple[float, float]:
    there = nudge.matrix(SIZE) @ (x, y, 1.0)
    return float(there[0] / there[2]), float(there[1] / there[2])


def test_it_moves_right_and_down_and_turns_and_stretches_around_the_middle() -> None:
    assert moved(Nudge(right=10 / 641, down=5 / 481), 100, 100) == pytest.approx((110, 105))
    assert moved(Nudge(turn_deg=10, stretch=1.2), 320, 240) == pytest.approx((320, 240))
    assert moved(Nudge(stretch=1.2), 420, 240) == pytest.approx((440, 240))
    x, y = moved(Nudge(turn_deg=10), 420, 240)
    assert (x, y) == pytest.approx((320 + 100 * np.cos(np.deg2rad(10)), 240 + 100 * np.sin(np.deg2rad(10))))
    assert y > 240, "clockwise as seen, since y points down"
    assert not Nudge().moves and Nudge(right=0.01).moves


def test_a_calibration_keeps_its_kind_and_moves_the_same_way() -> None:
    nudge = Nudge(right=0.02, down=-0.01, turn_deg=1.0, stretch=1.05)
    homography = np.array([[2.0, 0.01, 5.0], [0.0, 2.1, 3.0], [1e-5, 0.0, 1.0]])
    lens = Lens((320, 240), 300.0, 300.0, 159.5, 119.5, (0.1, 0.0, 0.0, 0.0))
    for made in (
        make_calibration("homography", (320, 240), SIZE, homography),
        make_calibration("affine", (320, 240), SIZE, homography[:2]),
        make_calibration("homography+lens", (320, 240), SIZE, homography, infrared_lens=lens),
    ):
        after = nudged(made, nudge)
        assert after.kind == made.kind and after.infrared == made.infrared
        found, wanted = after.matrix3(), nudge.matrix(SIZE) @ made.matrix3()
        assert found == pytest.approx(wanted / wanted[2, 2])
        assert after.quality == {"moved_by_hand": "yes"}
    assert nudged(make_calibration("identity", SIZE, SIZE), nudge).matrix3() == pytest.approx(nudge.matrix(SIZE))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"right": 0.6}, "right: 0.6 is not between -0.5 and 0.5"),
        ({"down": float("nan")}, "down: nan is not between"),
        ({"turn_deg": -21.0}, "turn_deg: -21 is not between -20 and 20"),
        ({"stretch": 0.1}, "stretch: 0.1 is not between 0.7 and 1.4"),
    ],
)
def test_more_than_a_calibration_is_off_by_is_refused(values: dict[str, float], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Nudge(**values)
