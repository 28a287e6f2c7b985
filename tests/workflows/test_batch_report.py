"""The report of ``fusepipe batch``: one table in four formats, and the metrics of ``fusepipe compare``."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.core.errors import SinkError, UsageError
from fusepipe.evaluation.metrics.registry import names_of
from fusepipe.evaluation.scores import metric_names, score_triple
from fusepipe.workflows.batch.batch_report import BatchReport, batch_report, write_batch_report
from fusepipe.workflows.batch.clip_job import ClipJob, ClipResult, failed_clip, run_clip
from fusepipe.workflows.batch.clip_metrics import SAMPLE, chosen_metrics
from fusepipe.workflows.batch.dispatch import BatchOutcome
from fusepipe.workflows.batch.entries import BatchEntry, read_entries
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.rows import ManifestRow

NAMES = ("EN", "Qabf", "PSNR")
FRAMES = 11


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64), np.uint8)


@pytest.fixture
def entry(tmp_path: Path) -> BatchEntry:
    """Two folders of grey images, fused by their mean into a folder."""
    for index in range(FRAMES):
        for number, band in enumerate(("ir", "vis")):
            (tmp_path / band).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / band / f"{index:02}.png"), image(2 * index + number))
    row = {"infrared": str(tmp_path / "ir"), "visible": str(tmp_path / "vis"), "output": "a/", "fusion.model": "mean"}
    (found,) = read_entries([ManifestRow(2, row)], "clips.csv", tmp_path / "out")
    return found


def fused(entry: BatchEntry, out: Path, *metrics: str) -> ClipResult:
    with KeptEngine() as engine:
        return run_clip(ClipJob(entry, out, metrics=metrics), engine)


def test_metrics_are_those_of_evenly_spaced_outputs(tmp_path: Path, entry: BatchEntry) -> None:
    result = fused(entry, tmp_path / "out", *NAMES)
    assert result.status == "finished", result.error
    files = sorted((tmp_path / "out" / "a").glob("*.png"))
    chosen = [0, 4, 8]
    assert len(files) == FRAMES and len(chosen) <= SAMPLE
    rows = [
        score_triple(image(2 * index), image(2 * index + 1), cv2.imread(str(files[index]), cv2.IMREAD_GRAYSCALE), NAMES)
        for index in chosen
    ]
    assert result.figures["metrics"] == pytest.approx({name: np.mean([row[name] for row in rows]) for name in NAMES})
    again = fused(entry, tmp_path / "out")
    assert again.status == "skipped" and again.figures == result.figures, "a record keeps them"


def test_metrics_do_not_change_the_output(tmp_path: Path, entry: BatchEntry) -> None:
    outs = (tmp_path / "out", tmp_path / "other")
    assert [fused(entry, out, *names).status for out, names in zip(outs, (NAMES, ()), strict=True)] == ["finished"] * 2
    first, second = ({path.name: path.read_bytes() for path in (out / "a").iterdir()} for out in outs)
    assert first == second


def test_metrics_are_named_one_by_one_or_by_variant() -> None:
    assert chosen_metrics(["Qabf", "EN"]) == ("Qabf", "EN")
    assert chosen_metrics(["common"]) == tuple(names_of("common"))
    with pytest.raises(UsageError, match=r"unknown metric 'Qab'.*Qabf"):
        chosen_metrics(["Qab"])


@pytest.fixture
def report(entry: BatchEntry) -> BatchReport:
    """Of three clips: one with metrics, one that failed, one that was not started."""
    entries = [entry, *(type(entry)(row, output, "images", entry.rig) for row, output in ((3, "<b>/"), (4, "c/")))]
    figures = {"seconds": 2.0, "pairs": {"fused": 10, "held": 2}, "metrics": {"EN": 6.5, "PSNR": float("inf")}}
    results = [
        ClipResult(2, "a", "finished", figures),
        ClipResult(3, "<b>/", "failed", error="ir: no such file\udcff", exit_code=3, attempts=3),
    ]
    return batch_report(entries, BatchOutcome(results, 3, 4.0, 2))


def test_all_formats_have_the_same_rows(tmp_path: Path, report: BatchReport) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    paths = write_batch_report(report, tmp_path)
    assert [path.name for path in paths] == ["batch.json", "batch.csv", "batch.parquet", "batch.html"]
    document = json.loads((tmp_path / "batch.json").read_text())
    assert (document["pairs_per_s"], document["metrics"]) == (3.0, {"EN": 6.5, "PSNR": None})
    with (tmp_path / "batch.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = parquet.read_table(tmp_path / "batch.parquet").to_pylist()
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == lines
    assert [row["status"] for row in rows] == ["finished", "failed", "not started"]
    first, second, third = rows
    assert (first["EN"], first["PSNR"], first["pairs"], first["states"]) == (6.5, None, 12, "fused=10 held=2")
    assert second["error"] == "ir: no such file\\udcff" and (third["attempts"], third["seconds"]) == (0, None)


def test_the_page_shows_metrics_and_failures_and_no_foreign_markup(tmp_path: Path, report: BatchReport) -> None:
    write_batch_report(report, tmp_path)
    page = (tmp_path / "batch.html").read_text()
    assert "<td>6.5</td><td>–</td>" in page and "mean of the clips" in page and "1 of 3 clips failed" in page
    assert "&lt;b&gt;/" in page and "<b>/" not in page


def test_an_outdated_table_is_removed_where_parquet_is_not_installed(
    tmp_path: Path, report: BatchReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "batch.parquet").write_bytes(b"of an earlier run")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert [path.suffix for path in write_batch_report(report, tmp_path)] == [".json", ".csv", ".html"]
    assert not (tmp_path / "batch.parquet").exists()


def test_an_unknown_metric_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("infrared,visible\na.mkv,b.mkv\n")
    words = ["batch", str(tmp_path / "clips.csv"), "--out", str(tmp_path / "out"), "--metrics", "Entropy"]
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, UsageError) and "unknown metric 'Entropy'" in str(error)
    assert not (tmp_path / "out").exists() and "Qabf" in metric_names()


def test_an_error_names_the_output_and_not_the_unfinished_file_that_is_removed(entry: BatchEntry) -> None:
    work = "/x/.batch/unfinished/0123456789abcdef"
    text = f"{work}/b.mkv: cannot be finalised; what was written is in {work}/b.partial.mkv"
    for output, place in (("a/b.mkv", "a/"), ("b.mkv", "")):
        failed = failed_clip(replace(entry, output=output), SinkError(text), retry=True)
        assert failed.error == f"/x/{place}b.mkv: cannot be finalised"
