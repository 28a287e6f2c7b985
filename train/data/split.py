"""The committed split: which registered pairs train and which validate (``train/splits/registered_pairs.csv``)."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Literal

SplitName = Literal["train", "validation"]


def read_split(split: SplitName) -> list[tuple[str, str]]:
    """(dataset, stem) of each pair of the split, in the committed order."""
    text = (resources.files("fusepipe.train") / "splits" / "registered_pairs.csv").read_text(encoding="utf-8")
    return [(row["dataset"], row["stem"]) for row in csv.DictReader(text.splitlines()) if row["split"] == split]
