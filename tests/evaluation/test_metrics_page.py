"""docs/metrics.md says what the code does; and the paper's CBF column is reproduced."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.evaluation.baselines.cbf import cbf
from fusepipe.evaluation.metrics.registry import measure

ROOT = Path(__file__).parents[2]

# Printed CBF column of the paper's Table 1, without VIF, whose definition is unknown.
PRINTED = {
    "nato_camp": {"MI": 1.43, "CC": 0.57, "Qabf": 0.34, "SCD": 1.34, "SSIM": 0.41},
    "tree": {"MI": 1.37, "CC": 0.64, "Qabf": 0.21, "SCD": 1.20, "SSIM": 0.30},
    "duine": {"MI": 1.26, "CC": 0.67, "Qabf": 0.34, "SCD": 1.25, "SSIM": 0.52},
}


def test_the_page_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_metrics_reference"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr


def cbf_values(data_dir: Path, sequence: str) -> Iterator[dict[str, str | float]]:
    """One row a frame: the sequence, the frame and the six metrics in the paper's variant."""
    folder = data_dir / "tno" / "sequences" / sequence
    for path in sorted((folder / "ir").iterdir()):
        ir, vis = (cv2.imread(str(folder / band / path.name), cv2.IMREAD_GRAYSCALE) for band in ("ir", "vis"))
        values = measure(ir, vis, cbf(ir, vis), ["MI", "CC", "VIF", "Qabf", "SCD", "SSIM"])
        yield {"sequence": sequence, "frame": path.stem, **values}


def export(rows: list[dict[str, str | float]], target: Path) -> None:
    """The per-frame values as CSV."""
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("sequence", PRINTED)
def test_the_cbf_column_is_reproduced(sequence: str, data_dir: Path, tmp_path: Path) -> None:
    """Per-frame values are left in pytest's temporary folder as cbf_<sequence>.csv (--basetemp names it)."""
    rows = list(cbf_values(data_dir, sequence))
    export(rows, tmp_path / f"cbf_{sequence}.csv")
    assert len(rows) == {"nato_camp": 32, "tree": 19, "duine": 23}[sequence]
    for name, printed in PRINTED[sequence].items():
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(printed, abs=0.02), name
