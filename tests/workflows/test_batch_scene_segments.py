"""Segments of clips whose scene is followed, and their sidecars, infrared recordings and metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.batch_clip import Batch, entry
from helpers.made_clips import write_clip, write_counts

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Frame
from fusepipe.pipeline.sources.files.undecoded import UndecodedFrames
from fusepipe.workflows.batch.clip_job import ClipResult
from fusepipe.workflows.batch.clip_queue import ClipQueue
from fusepipe.workflows.batch.dispatch import begin_segments
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.segment_files import read_handover, segments_folder
from fusepipe.workflows.batch.segment_plan import FIRST_PASS, Handover, SegmentChoice

REGULAR = range(0, 3200, 40)  # 3.2 s at 25 Hz
# 9 Hz, without half a second of flat-field correction
SLOW = [at_ms for at_ms in range(30, 3150, 111) if not 1800 < at_ms < 2250]
THREE = SegmentChoice(3)
AUTO: dict[str, Any] = {}


@pytest.fixture(scope="module")
def engine() -> Iterator[KeptEngine]:
    with KeptEngine() as kept:
        yield kept


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_counts(folder / "ir.mkv", SLOW)
    write_clip(folder / "vis.mkv", REGULAR)
    return folder


@pytest.mark.parametrize(
    "row",
    [
        AUTO,
        {"infrared.agc": {"mode": "local", "adapt": "200ms"}, "infrared.polarity": "black-hot"},
        {"infrared.repair": {"dead_pixels": "auto", "stripes": "both"}, "infrared.denoise": "auto"},
        {"sync.reference": "infrared", "sync.on_missing": "drop", "infrared.agc": "plateau"},
        {"sink.sidecar": "on"},
        {"sink.infrared_track": "on", "sink.sidecar": "on"},
        {"sink.content": "infrared", "sink.sidecar": "on"},
        {"sink.content": "infrared", "infrared.range": [7000, 9000]},
    ],
    ids=["auto", "local", "repair", "plateau", "sidecar", "track", "recording", "recording-range"],
)
def test_all_files_of_joined_segments_are_those_of_the_whole_clip(
    row: dict[str, Any], clips: Path, tmp_path: Path, engine: KeptEngine
) -> None:
    clip = entry(clips, **row)
    whole = Batch(clip, tmp_path / "whole", None, engine).run()
    joined = Batch(clip, tmp_path / "split", THREE, engine).run()
    assert (whole.status, joined.status) == ("finished", "finished"), (whole.error, joined.error)
    assert joined.figures.get("segments") == 3, joined.figures["warnings"]
    names = [file.name for file in sorted((tmp_path / "whole").iterdir()) if file.is_file()]
    assert names == (["a.jsonl", "a.mkv"] if "sink.sidecar" in row else ["a.mkv"])
    for name in names:
        assert (tmp_path / "split" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert joined.figures["pairs"] == {state: n for state, n in whole.figures["pairs"].items() if n}
    assert joined.figures["warnings"] == whole.figures["warnings"]
    assert not (tmp_path / "split" / ".batch" / "segments").exists()


@pytest.mark.parametrize("damaged", ["ir.mkv", "vis.mkv"])
def test_damaged_frames_make_no_difference(damaged: str, clips: Path, tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        content = bytearray((clips / name).read_bytes())
        for share in (0.3, 0.55, 0.8) if name == damaged else ():
            place = int(share * len(content))
            content[place : place + 40] = bytes(40)
        (tmp_path / name).write_bytes(content)
    whole = Batch(entry(tmp_path), tmp_path / "whole", None, engine).run()
    joined = Batch(entry(tmp_path), tmp_path / "split", THREE, engine).run()
    assert (whole.status, joined.status) == ("finished", "finished"), (whole.error, joined.error)
    assert any("unreadable" in reason for reason in whole.figures["skipped"])
    assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()


def test_the_first_segment_may_have_no_frames(tmp_path: Path, engine: KeptEngine) -> None:
    write_counts(tmp_path / "ir.mkv", range(1700, 4000, 40))
    write_clip(tmp_path / "vis.mkv", range(0, 4000, 40))
    clip = entry(tmp_path, **{"sync.on_missing": "drop"})
    whole = Batch(clip, tmp_path / "whole", None, engine).run()
    joined = Batch(clip, tmp_path / "split", THREE, engine).run()
    assert joined.figures.get("segments") == 3, (joined.error, joined.figures["warnings"])
    assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()
    assert whole.figures["pairs"]["fused"] == joined.figures["pairs"]["fused"]


@pytest.mark.parametrize("row", [AUTO, {"infrared.range": [7000, 9000]}], ids=["followed", "fixed"])
def test_metrics_are_those_of_the_whole_clip(
    row: dict[str, Any], clips: Path, tmp_path: Path, engine: KeptEngine
) -> None:
    names = ("EN", "SD")
    whole = Batch(entry(clips, **row), tmp_path / "whole", None, engine, names).run()
    joined = Batch(entry(clips, **row), tmp_path / "split", THREE, engine, names).run()
    assert joined.figures.get("segments") == 3, joined.figures["warnings"]
    assert set(whole.figures["metrics"]) == set(names)
    assert joined.figures["metrics"] == whole.figures["metrics"]


@pytest.mark.parametrize("closed_ms", [0, 1500])
def test_counts_that_do_not_suit_a_fixed_range_are_reported_once(
    closed_ms: int, tmp_path: Path, engine: KeptEngine
) -> None:
    write_counts(tmp_path / "ir.mkv", REGULAR, closed_ms=closed_ms)
    write_clip(tmp_path / "vis.mkv", REGULAR)
    clip = entry(tmp_path, **{"infrared.range": [0, 60000]})
    whole = Batch(clip, tmp_path / "whole", None, engine).run()
    joined = Batch(clip, tmp_path / "split", THREE, engine).run()
    assert joined.figures.get("segments") == 3, joined.figures["warnings"]
    [warning] = whole.figures["warnings"]
    assert "0..60000" in warning
    assert joined.figures["warnings"] == [warning]


def test_segments_that_follow_the_scene_differently_are_not_joined(
    clips: Path, tmp_path: Path, engine: KeptEngine
) -> None:
    batch = Batch(entry(clips), tmp_path, THREE, engine)
    for _ in range(4):  # the plan and all segments
        batch.step()
    record = segments_folder(tmp_path, "a.mkv") / "0001.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ends": "another state"}))
    ended = batch.run()
    assert ended.status == "finished" and "segments" not in ended.figures
    assert "was followed differently" in ended.figures["warnings"][-1]


def followed(batch: Batch) -> ClipResult:
    """The result of the first pass, after the plan."""
    planned, result = batch.step(), batch.step()
    assert planned is not None and planned.status == "split" and planned.plan is not None and result is not None
    assert result.plan is not None and result.plan.first_pass == planned.plan.first_pass != ""
    return result


def test_a_pass_is_not_made_twice_and_a_damaged_state_is(clips: Path, tmp_path: Path, engine: KeptEngine) -> None:
    folder = segments_folder(tmp_path, "a.mkv")
    first = followed(Batch(entry(clips), tmp_path, THREE, engine))
    states = {file.name: file.read_bytes() for file in folder.glob("*.state")}
    assert sorted(states) == ["0001.state", "0002.state"]
    stamps = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert followed(Batch(entry(clips), tmp_path, THREE, engine)).plan == first.plan
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == stamps, "nothing was decoded again"
    (folder / "0002.state").write_bytes(b"damaged")
    batch = Batch(entry(clips), tmp_path, THREE, engine)
    assert followed(batch).plan == first.plan
    assert (folder / "0002.state").read_bytes() == states["0002.state"]
    (folder / "0001.state").unlink()
    ended = batch.run()
    assert ended.status == "failed" and "what it starts from was damaged or removed" in ended.error
    assert Batch(entry(clips), tmp_path, THREE, engine).run().status == "finished"


def test_segments_begin_before_the_first_pass_has_ended(clips: Path, tmp_path: Path, engine: KeptEngine) -> None:
    """Each as soon as its state is kept: what a pass that is killed has found is used."""
    batch = Batch(entry(clips), tmp_path, THREE, engine)
    planned = batch.step()
    assert planned is not None and planned.plan is not None
    queue, folder = ClipQueue([entry(clips)], 0, lambda: 0.0), segments_folder(tmp_path, "a.mkv")
    assert queue.next(0.0) is not None and queue.note(planned, 0.0)
    parts = [queue.next(0.0), queue.next(0.0)]
    assert [part.part.index for part in parts if part and part.part] == [FIRST_PASS, 0]
    begin_segments(queue, tmp_path)
    assert queue.next(0.0) is None, "nothing is known of the other segments yet"
    assert batch.step() is not None
    (folder / "0002.handover").unlink()
    begin_segments(queue, tmp_path)
    second = queue.next(0.0)
    assert second is not None and second.part is not None and second.part.index == 1
    assert second.part.plan.sections[1].handover == read_handover(folder, 1, planned.plan.first_pass) != Handover()
    assert queue.next(0.0) is None
    assert read_handover(folder, 1, "of other settings") is None


def test_only_images_that_a_stage_measures_are_decoded_first(
    clips: Path, tmp_path: Path, engine: KeptEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = UndecodedFrames.decoded

    def counted(frames: UndecodedFrames, frame: Frame) -> Frame:
        decoded.append(frame.index)
        return decode(frames, frame)

    monkeypatch.setattr(UndecodedFrames, "decoded", counted)
    write_counts(tmp_path / "ir.mkv", REGULAR)
    write_clip(tmp_path / "vis.mkv", REGULAR)
    for row in (AUTO, {"infrared.repair": {"stripes": "both"}, "infrared.denoise": "auto"}):
        decoded.clear()
        assert Batch(entry(tmp_path, **row), tmp_path / "split", THREE, engine).run().figures["segments"] == 3
        assert len(REGULAR) // 6 < len(set(decoded)) < len(REGULAR) // 2, "at 25 Hz gain control measures each third"
        assert Batch(entry(tmp_path, **row), tmp_path / "whole", None, engine).run().status == "finished"
        assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()
        (tmp_path / "split" / "a.mkv").unlink(), (tmp_path / "whole" / "a.mkv").unlink()


def test_an_infrared_file_whose_images_need_others_is_followed_as_well(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR)
    clip = entry(tmp_path, **{"infrared.agc": "plateau", "infrared.repair": {"stripes": "columns"}})
    assert Batch(clip, tmp_path / "whole", None, engine).run().status == "finished"
    joined = Batch(clip, tmp_path / "split", THREE, engine).run()
    assert joined.figures.get("segments") == 3, (joined.error, joined.figures.get("warnings"))
    assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()


def test_a_clip_whose_images_cannot_be_decoded_by_themselves_is_fused_as_a_whole(
    clips: Path, tmp_path: Path, engine: KeptEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(frames: UndecodedFrames, frame: Frame) -> Frame:
        raise SourceError(f"frame {frame.index} cannot be decoded by itself")

    monkeypatch.setattr(UndecodedFrames, "decoded", refused)
    ended = Batch(entry(clips), tmp_path, THREE, engine).run()
    assert ended.status == "finished" and "segments" not in ended.figures
    assert "infrared frame 0 cannot be decoded by itself" in ended.figures["warnings"][-1]


@pytest.mark.parametrize("choice", [None, THREE], ids=["whole", "segments"])
def test_an_unfinished_output_is_not_synced_to_the_disk_every_second(
    choice: SegmentChoice | None, clips: Path, tmp_path: Path, engine: KeptEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fdatasync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    assert Batch(entry(clips, **{"sink.sidecar": "on"}), tmp_path, choice, engine).run().status == "finished"
    # the video and its sidecar once each; of three segments and of the joined file
    assert len(synced) == (2 if choice is None else 8)
