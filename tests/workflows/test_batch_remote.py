"""Remote inputs of ``fusepipe batch``: fused as local ones, verified without a copy, and never with a secret."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fusepipe.cli import cli
from fusepipe.core.errors import ConfigError, FusepipeError, UsageError
from fusepipe.core.redact import hide_known
from fusepipe.workflows.batch.clip_job import ClipJob, ClipResult, run_clip
from fusepipe.workflows.batch.entries import local_manifest, read_entries
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.rows import ManifestRow, read_rows

pytest.importorskip("fsspec", reason="needs the extra batch")


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; notes the requests of content."""

    served: list[str]

    def do_GET(self) -> None:
        type(self).served.append(self.path)
        if self.path.startswith("/broken"):
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of two images, and the paths that were fetched."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name, level in (("ir", 40), ("vis", 90)):
        assert cv2.imwrite(str(folder / f"{name}.png"), np.full((32, 48), level, np.uint8))
    handler = type("Handler", (_Handler,), {"served": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, name="http")
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", handler.served
        finally:
            httpd.shutdown()
            thread.join(10)


def fused(tmp_path: Path, infrared: str, visible: str, output: str) -> ClipResult:
    """The result of one clip in this process."""
    row = ManifestRow(1, {"infrared": infrared, "visible": visible, "output": output, "fusion.model": "mean"})
    (entry,) = read_entries([row], "clips.csv", tmp_path / "out")
    with KeptEngine() as engine:
        return run_clip(ClipJob(entry, tmp_path / "out"), engine)


def test_a_remote_clip_is_fused_as_a_local_one(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    url, served = server
    local = fused(tmp_path, str(tmp_path / "served/ir.png"), str(tmp_path / "served/vis.png"), "local.png")
    remote = fused(tmp_path, f"{url}/ir.png", f"{url}/vis.png", "remote.png")
    assert (local.status, remote.status) == ("finished", "finished"), remote.error
    assert (tmp_path / "out/local.png").read_bytes() == (tmp_path / "out/remote.png").read_bytes()
    fetched = len(served)
    assert fused(tmp_path, f"{url}/ir.png", f"{url}/vis.png", "remote.png").status == "skipped"
    assert len(served) == fetched, "verified without another copy"


def test_one_input_may_be_remote_and_in_memory(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    import fsspec

    with fsspec.open("memory://clips/ir.png", "wb") as file:
        file.write((tmp_path / "served/ir.png").read_bytes())
    result = fused(tmp_path, "memory://clips/ir.png", str(tmp_path / "served/vis.png"), "a.png")
    assert result.status == "finished", result.error


def test_what_cannot_be_fetched_says_why_without_the_secret(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    url, _ = server
    visible, signed = str(tmp_path / "served/vis.png"), url.replace("://", "://admin:geheim99@")
    results = {
        name: fused(tmp_path, source, visible, "a.png")
        for name, source in (
            ("missing", f"{signed}/none.png"),
            ("broken", f"{url}/broken.png?token=geheim99"),
            ("unreachable", "http://127.0.0.1:1/ir.png"),
            ("unknown", "nosuch://bucket/ir.png"),
        )
    }
    assert {name: (result.retry, result.exit_code) for name, result in results.items()} == {
        "missing": (False, 3),
        "broken": (True, 3),
        "unreachable": (True, 3),
        "unknown": (False, 2),
    }
    shown = json.dumps([hide_known(result.error) for result in results.values()])
    assert "no such file" in results["missing"].error and "geheim99" not in shown
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_remote_manifest_names_files_beside_it(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    url, served = server
    manifest = f"{url.replace('://', '://admin:geheim99@')}/clips.csv?token=geheim98"
    (tmp_path / "served" / "clips.csv").write_text(
        "infrared,visible,output,fusion.model\nir.png,vis.png,a.png,mean\n"
        f"ir.png,{tmp_path}/served/vis.png,b.png,mean\nmemory://x/ir.png,vis 1.png,c.png,mean\n"
    )
    entries = read_entries(read_rows(manifest), manifest, tmp_path / "out")
    assert served == ["/clips.csv?token=geheim98"], "the manifest alone is fetched"
    base = url.replace("://", "://admin:geheim99@")
    assert [entry.inputs for entry in entries] == [
        (f"{base}/ir.png", f"{base}/vis.png"),
        (f"{base}/ir.png", f"{tmp_path}/served/vis.png"),
        ("memory://x/ir.png", f"{base}/vis%201.png"),
    ]
    with KeptEngine() as engine:
        result = run_clip(ClipJob(entries[0], tmp_path / "out"), engine)
    assert result.status == "finished", result.error


def test_a_manifest_may_be_in_memory_or_a_file_url(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://lists/clips.jsonl", "w") as file:
        file.write('{"infrared": "a b.mkv", "visible": "v.mkv"}\n')
    manifest = "memory://lists/clips.jsonl"
    (entry,) = read_entries(read_rows(manifest), manifest, tmp_path)
    assert entry.inputs == ("memory://lists/a b.mkv", "memory://lists/v.mkv") and entry.output == "a b.mkv"
    assert local_manifest(f"file://{tmp_path}/my%20clips.csv") == f"{tmp_path}/my clips.csv"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.csv", "no such file"),
        ("broken.csv", "cannot be fetched"),
        ("ir.png", "is no manifest"),
        ("*.csv/ir", "a pattern is for files of this machine"),
        ("torn.jsonl", ":1: is not JSON"),
    ],
)
def test_a_remote_manifest_that_cannot_be_read_says_why_without_the_secret(
    tmp_path: Path, server: tuple[str, list[str]], name: str, says: str
) -> None:
    url, _ = server
    (tmp_path / "served" / "torn.jsonl").write_text('{"infrared": ')
    with pytest.raises(FusepipeError) as refused:
        read_rows(f"{url}/{name}?token=geheim97")
    assert says in str(refused.value) and "geheim97" not in hide_known(str(refused.value))


def test_other_paths_of_a_remote_manifest_are_absolute(tmp_path: Path) -> None:
    row = {"infrared": "ir.mkv", "visible": "vis.mkv", "output": "a.mkv"}
    for key, value in (("rig", "roof.yaml"), ("registration.calibration", "roof.yaml"), ("output", "../a.mkv")):
        with pytest.raises(ConfigError, match=r"^http://h/clips\.csv:2: "):
            read_entries([ManifestRow(2, {**row, key: value})], "http://h/clips.csv", tmp_path)


def test_outputs_are_not_written_to_a_url(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("infrared,visible\na.mkv,b.mkv\n")
    words = ["batch", str(tmp_path / "clips.csv"), "--out", "s3://user:geheim96@bucket/fused"]
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, UsageError) and "is a URL" in str(error) and "geheim96" not in str(error)
