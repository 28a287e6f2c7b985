"""Published tables as printed, and the presets that reproduce them."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.resources import files

METRICS_OF_PAPER = ("MI", "CC", "VIF", "Qabf", "SCD", "SSIM")
SOURCE = (
    "Liu et al., Learning attention guided deep multi-scale feature ensemble for infrared and visible image "
    "fusion, ICME 2020"
)
TABLE1_SETS = ("nato_camp", "tree", "duine")
TABLE1_MODELS = ("cbf", "gtf", "jsrsd", "fusiongan", "ddcgan")
OWN = "paper's own"  # the row of the paper's network; `mfe` here, `stream` without it


@dataclass(frozen=True, slots=True)
class Preset:
    """A published table: models, data and the printed values.

    ``missing`` are rows that this version has no model for, with the reason. ``rename`` maps a model to
    the row it corresponds to.
    """

    name: str
    table: str
    sets: tuple[str, ...]
    models: tuple[str, ...]
    missing: dict[str, str]
    printed: dict[tuple[str, str, str], float]
    rename: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def printed_values(table: str) -> dict[tuple[str, str, str], float]:
    """(set, row, metric) -> the value as printed."""
    text = files("fusepipe.evaluation.report").joinpath("published_tables.csv").read_text("utf-8")
    return {
        (row["set"], row["row"], row["metric"]): float(row["value"])
        for row in csv.DictReader(text.splitlines())
        if row["table"] == table
    }


def table1(models: Collection[str]) -> Preset:
    """Three sequences x the paper's methods x six metrics, with the available ``models``."""
    own = "mfe" if "mfe" in models else "stream"
    there = tuple(model for model in TABLE1_MODELS if model in models)
    missing = {model: "not available in this version" for model in TABLE1_MODELS if model not in models}
    printed = printed_values("table1")
    renamed = {key: value for key, value in printed.items() if key[1] != OWN}
    renamed |= {(s, own, metric): value for (s, row, metric), value in printed.items() if row == OWN}
    notes = (
        f"{own}: the printed values are those of the paper's own network",
        "ddcgan: its column is missing from the printed table",
        "VIF: the paper's variant is not known; here the sum of the pixel-domain VIF of both sources, so that "
        "only the order of methods compares",
    )
    return Preset("paper-table1", "table1", TABLE1_SETS, (*there, own), missing, renamed, notes=notes)


def table2(models: Collection[str]) -> Preset:
    """25 TNO pairs x the ablation rows x six metrics."""
    rows = {"mfe-without-d": "without D", "mfe-without-a": "without A", "mfe-without-s": "without S", "mfe": "full"}
    there = tuple(model for model in rows if model in models)
    missing = {row: f"the weights of {model} are not installed" for model, row in rows.items() if model not in models}
    rename = {model: rows[model] for model in there}
    notes = ("the paper's list of 25 pairs is not known; here the 25 that later papers test on",)
    return Preset("paper-table2", "table2", ("pairs",), there, missing, printed_values("table2"), rename, notes)


PRESETS = {"paper-table1": table1, "paper-table2": table2}
