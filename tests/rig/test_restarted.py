"""A rig whose process has failed and is started again: what was written before is kept, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from fusepipe.config.schema import Rig
from fusepipe.core.errors import OutputExistsError
from fusepipe.pipeline.sinks.files.unused_folder import unused_folder
from fusepipe.rig.api import Pipeline

STREET = "synthetic://street?band={}&size=80x60&fps=10&duration=1s&pace=real"


def pipeline(folder: Path, **options: bool) -> Pipeline:
    body = {
        "name": "roof",
        **{band: {"url": STREET.format(band)} for band in ("infrared", "visible")},
        "fusion": {"model": "mean"},
        "sinks": [{"file": str(folder / "a.mkv")}, {"images": str(folder / "i")}],
    }
    return Pipeline(Rig.model_validate(body), **options)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_failed_process_wrote_is_kept_and_the_rig_runs_again(tmp_path: Path, overwrite: bool) -> None:
    """As with a disk that was full: the file under its temporary name is the only copy."""
    (tmp_path / "i").mkdir()
    before = {"a.partial.mkv": b"interrupted", "i/000000.png": b"an image"}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    if not overwrite:
        with pytest.raises(OutputExistsError, match="left over from an interrupted run"):
            pipeline(tmp_path).run()
    report = pipeline(tmp_path, overwrite=overwrite, restarted=True).run()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    with av.open(str(tmp_path / "a.2.mkv")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == len(list((tmp_path / "i.2").iterdir())) > 0
    assert [sink["frames"] for sink in report.sinks] == [frames, frames]
    assert not (tmp_path / "a.mkv").exists()


def test_the_next_folder_without_images_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "out.v2"
    assert unused_folder(folder) == folder
    folder.mkdir()
    (folder / "notes.txt").touch()
    assert unused_folder(folder) == folder
    (folder / "1.PNG").touch()
    (tmp_path / "out.v2.2").touch()
    assert unused_folder(folder) == tmp_path / "out.v2.3"
