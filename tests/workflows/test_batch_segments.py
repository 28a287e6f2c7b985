"""Clips that are split: the joined output is that of the whole clip, and nothing is fused twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.batch_clip import Batch, entry
from helpers.made_clips import write_clip

from fusepipe.cli import cli
from fusepipe.core.errors import FusepipeError
from fusepipe.workflows.batch.kept_engine import KeptEngine
from fusepipe.workflows.batch.records import made_from
from fusepipe.workflows.batch.segment_files import read_segment, segment_made_from, segments_folder
from fusepipe.workflows.batch.segment_plan import ClipPart, SegmentChoice

REGULAR = range(0, 6000, 40)  # 6 s at 25 Hz
# 9 Hz from 0.5 s on, without 1.2 s of flat-field correction, and not to the end
SLOW = [at_ms for at_ms in range(530, 5300, 111) if not 2900 < at_ms < 4100]
UNEVEN = [at_ms + at_ms % 7 for at_ms in REGULAR if at_ms % 13]
FOUR = SegmentChoice(4)


@pytest.fixture(scope="module")
def engine() -> Iterator[KeptEngine]:
    with KeptEngine() as kept:
        yield kept


def packets(path: Path) -> list[tuple[Any, Any, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, packet.dts, bytes(packet)) for packet in container.demux(video=0) if packet.size]


def luma(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    with av.open(str(path)) as container:
        return np.array([frame.to_ndarray(format="gray") for frame in container.decode(video=0)], np.float64)


@pytest.mark.parametrize(
    ("infrared", "visible", "row"),
    [
        (REGULAR, REGULAR, {}),
        (SLOW, UNEVEN, {}),
        (SLOW, UNEVEN, {"sync.offset": "-150ms", "sync.on_missing": "drop"}),
        (REGULAR, [at_ms - 530 for at_ms in SLOW], {"sync.reference": "infrared", "sync.max_hold": "2s"}),
    ],
    ids=["regular", "uneven", "offset", "infrared"],
)
def test_joined_segments_are_the_whole_clip_to_the_byte(
    infrared: Any, visible: Any, row: dict[str, str], tmp_path: Path, engine: KeptEngine
) -> None:
    write_clip(tmp_path / "ir.mkv", infrared, (32, 32), audio=True)
    write_clip(tmp_path / "vis.mkv", visible, audio=True)
    clip = entry(tmp_path, **row)
    whole = Batch(clip, tmp_path / "whole", None, engine).run()
    split = Batch(clip, tmp_path / "split", FOUR, engine)
    joined = split.run()
    assert (whole.status, joined.status) == ("finished", "finished"), (whole.error, joined.error)
    assert joined.figures.get("segments") == 4, joined.figures["warnings"]
    assert len(split.results) == 6, "a plan, four segments, and joining them"
    assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()
    assert joined.figures["pairs"] == {state: n for state, n in whole.figures["pairs"].items() if n}
    assert joined.figures["read"] == whole.figures["read"]
    assert joined.figures["warnings"] == whole.figures["warnings"]
    assert not (tmp_path / "split" / ".batch" / "segments").exists()


def test_frames_that_cannot_be_read_are_counted_once(tmp_path: Path, engine: KeptEngine) -> None:
    """Segments read from a key frame before their beginning and beyond their end."""
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR, codec="ffv1", pixel_format="gray", key_every=1)
    damage = bytearray((tmp_path / "vis.mkv").read_bytes())
    for share in (0.26, 0.4, 0.49, 0.7):
        place = int(share * len(damage))
        damage[place : place + 8] = bytes(byte ^ 255 for byte in damage[place : place + 8])
    (tmp_path / "vis.mkv").write_bytes(damage[: len(damage) * 3 // 4])
    whole = Batch(entry(tmp_path), tmp_path / "whole", None, engine).run()
    joined = Batch(entry(tmp_path), tmp_path / "split", FOUR, engine).run()
    assert joined.figures.get("segments") == 4, (joined.error, joined.figures["warnings"])
    assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()
    assert whole.figures["warnings"] == ["5 unreadable visible"]
    assert joined.figures["warnings"] == whole.figures["warnings"]


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", {"b_frames": 3}),
        (".ts", {}),
        (".mkv", {"x264": "open-gop=1"}),
        (".mkv", {"x264": "intra-refresh=1", "b_frames": 0}),
    ],
    ids=["mp4", "mpegts", "open-gop", "intra-refresh"],
)
def test_files_whose_key_frames_are_not_found_or_not_whole_are_read_from_before_them(
    suffix: str, options: dict[str, Any], tmp_path: Path, engine: KeptEngine
) -> None:
    clip = entry(tmp_path, infrared=str(tmp_path / f"ir{suffix}"), visible=str(tmp_path / f"vis{suffix}"))
    for name in ("ir", "vis"):
        write_clip(tmp_path / f"{name}{suffix}", REGULAR, **options)
    whole = Batch(clip, tmp_path / "whole", None, engine).run()
    joined = Batch(clip, tmp_path / "split", FOUR, engine).run()
    assert joined.figures.get("segments") == 4, (whole.error, joined.error, joined.figures.get("warnings"))
    assert (tmp_path / "split" / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()


def test_h264_in_mp4_has_the_same_times_and_quality(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, UNEVEN)
    quality = {"sink.quality": 30}
    exact = Batch(entry(tmp_path), tmp_path / "exact", None, engine).run()
    whole = Batch(entry(tmp_path, "a.mp4", **quality), tmp_path / "whole", None, engine).run()
    joined = Batch(entry(tmp_path, "a.mp4", **quality), tmp_path / "split", FOUR, engine).run()
    assert [exact.error, whole.error, joined.error] == [""] * 3 and joined.figures["segments"] == 4
    one, other = (packets(tmp_path / name / "a.mp4") for name in ("whole", "split"))
    assert [packet[:2] for packet in one] == [packet[:2] for packet in other]
    truth, *coded = (luma(tmp_path / name) for name in ("exact/a.mkv", "whole/a.mp4", "split/a.mp4"))
    psnr = [10 * np.log10(255**2 / np.mean((truth - images) ** 2)) for images in coded]
    # each segment begins with a key frame of its own: here one more in 37 frames, which is no worse
    assert psnr[1] > psnr[0] - 0.1


def test_finished_segments_are_kept_and_damaged_ones_are_fused_again(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR)
    clip, out = entry(tmp_path), tmp_path / "out"
    first = Batch(clip, out, FOUR, engine)
    for _ in range(3):  # the plan and two segments; then it is interrupted
        first.step()
    folder = segments_folder(out, clip.output)
    assert sorted(file.name for file in folder.glob("*.mkv")) == ["0000.mkv", "0001.mkv"]
    (folder / "0001.mkv").write_bytes(b"damaged")
    again = Batch(clip, out, FOUR, engine)
    assert again.run().status == "finished"
    assert [result.status for result in again.results] == [
        "split", "skipped", "finished", "finished", "finished", "finished"
    ]  # fmt: skip
    assert Batch(clip, tmp_path / "whole", None, engine).run().status == "finished"
    assert (out / "a.mkv").read_bytes() == (tmp_path / "whole" / "a.mkv").read_bytes()
    assert Batch(clip, out, FOUR, engine).run().status == "skipped"


def test_segments_that_do_not_fit_together_are_not_joined(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR)
    clip, out = entry(tmp_path), tmp_path / "out"
    batch = Batch(clip, out, FOUR, engine)
    planned = batch.step()
    for _ in range(4):
        batch.step()
    record = segments_folder(out, clip.output) / "0002.json"
    document = json.loads(record.read_text())
    record.write_text(json.dumps(document | {"before": "another frame"}))
    ended = batch.run()
    assert planned is not None and planned.plan is not None and ended.status == "finished"
    assert "two segments differ in the frame at" in ended.figures["warnings"][-1]
    assert len(packets(out / "a.mkv")) == len(REGULAR) and "segments" not in ended.figures


def test_a_segment_that_was_removed_is_an_error_and_fused_by_the_next_run(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR)
    clip, out = entry(tmp_path), tmp_path / "out"
    batch = Batch(clip, out, FOUR, engine)
    for _ in range(5):
        batch.step()
    (segments_folder(out, clip.output) / "0003.mkv").unlink()
    ended = batch.run()
    assert ended.status == "failed" and "segment 4 was damaged or removed" in ended.error
    assert not (out / "a.mkv").exists()
    assert Batch(clip, out, FOUR, engine).run().status == "finished"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"sink.view": {"hot": {"percentile": 99}}}, "view.hot.percentile"),
        ({"registration.drift": "correct"}, "registration.drift"),
        ({"visible.denoise": "auto"}, "visible.denoise follows the scene"),
        ({"visible.fps": 25.0}, "no times of their own"),
        ({"sync.reference": "infrared", "visible": "late.mkv"}, "its segments differ in value range"),
        ({"output": "a.avi", "sink.codec": "h264"}, "AVI has no capture times"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_depends_on_all_frames_before_is_fused_as_a_whole(
    row: dict[str, Any], says: str, tmp_path: Path, engine: KeptEngine
) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR)
    write_clip(tmp_path / "late.mkv", SLOW)
    if "visible" in row:
        row |= {"visible": str(tmp_path / "late.mkv")}
    ended = Batch(entry(tmp_path, **row), tmp_path / "out", FOUR, engine).run()
    assert ended.status == "finished" and "segments" not in ended.figures, ended.error
    assert "fused as a whole, not in segments" in ended.figures["warnings"][-1]
    assert says in ended.figures["warnings"][-1]


def test_a_short_clip_and_one_that_is_missing_are_as_without_segments(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR[:20])
    batch = Batch(entry(tmp_path), tmp_path / "out", SegmentChoice(length_ns=10**10), engine)
    ended = batch.run()
    assert ended.status == "finished" and len(batch.results) == 1 and not ended.figures["warnings"]
    (tmp_path / "ir.mkv").unlink()
    lost = Batch(entry(tmp_path, "b.mkv"), tmp_path / "out", FOUR, engine).run()
    assert lost.status == "failed" and lost.exit_code == 3 and not lost.retry


def test_a_record_of_a_segment_holds_for_its_clip_and_section_only(tmp_path: Path, engine: KeptEngine) -> None:
    for name in ("ir.mkv", "vis.mkv"):
        write_clip(tmp_path / name, REGULAR)
    clip, out = entry(tmp_path), tmp_path / "out"
    batch = Batch(clip, out, FOUR, engine)
    planned, _ = batch.step(), batch.step()
    assert planned is not None and planned.plan is not None
    folder = segments_folder(out, clip.output)
    for made, index, known in ((made_from(clip), 0, True), ("other", 0, False), (made_from(clip), 1, False)):
        part = ClipPart(planned.plan, index)
        assert (read_segment(folder, index, segment_made_from(made, part)) is not None) is known


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--segments", "1"], "auto or a number from 2"),
        (["--segments", "many"], "auto or a number from 2"),
        (["--segments", "4", "--segment-length", "60s"], "remove one"),
        (["--segment-length", "10ms"], "at least 1s"),
    ],
)
def test_options_that_say_nothing_sensible_are_refused(options: list[str], says: str) -> None:
    words = ["batch", "clips.csv", "--out", "out", *options]
    error = CliRunner().invoke(cli, words, obj=tuple(words)).exception
    assert isinstance(error, FusepipeError) and error.exit_code == 2 and says in str(error)
