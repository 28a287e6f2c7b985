"""The committed split: which registered pairs train and which validate (``train/splits/registered_pairs.csv``)."""

from __future__ import annotations

import csv
from collections.abc import Collection
from importlib import resources
from typing import Literal

SplitName = Literal["train", "validation"]

BASE_SETS = ("roadscene", "msrs", "llvip")
"""The data sets that ``mfe`` and the baselines are trained on."""


def read_split(split: SplitName, datasets: Collection[str] = ()) -> list[tuple[str, str]]:
    """(dataset, stem) of each pair of the split, in the committed order; of these ``datasets``, by default of all."""
    text = (resources.files("fusepipe.train") / "splits" / "registered_pairs.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["split"] == split]
    return [(row["dataset"], row["stem"]) for row in rows if not datasets or row["dataset"] in datasets]
