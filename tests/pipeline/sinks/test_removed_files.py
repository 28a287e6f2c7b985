"""A recording whose file or folder is removed while it is written: noticed at the next flush, and not claimed."""

import shutil

import pytest
from helpers.recording import S, fused, lines, packets, recorder, videos

from fusepipe.core.errors import SinkError
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink

FLUSH_FRAMES = 25  # at 25 frames per second, with the default of one second


def write_until_error(sink, first, count):
    """The number of frames that were taken, and the error."""
    for index in range(first, first + count):
        try:
            sink.write(fused(index))
        except SinkError as error:
            return index - first, str(error)
    pytest.fail(f"{count} frames were written into a file that no longer exists")


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_video_that_loses_its_file_says_so_at_the_next_flush(tmp_path, how):
    folder = tmp_path / "rec"
    sink = VideoSink(folder / "a.mkv", VideoOptions())
    for index in range(30):
        sink.write(fused(index))
    if how == "moved":
        folder.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(folder)
    if how == "replaced":
        folder.mkdir()
        (folder / "a.partial.mkv").write_bytes(b"of another program")
    taken, message = write_until_error(sink, 30, 60)
    assert taken <= FLUSH_FRAMES
    assert "removed, moved or replaced" in message and "partial" not in message
    report = sink.close()
    assert (report.path, report.frames, report.bytes) == (str(folder / "a.mkv"), 0, 0)
    assert "removed" in report.note
    if how == "replaced":
        assert (folder / "a.partial.mkv").read_bytes() == b"of another program"


def test_a_video_that_loses_its_file_before_it_is_finalised_claims_nothing(tmp_path):
    sink = VideoSink(tmp_path / "rec" / "a.mkv", VideoOptions())
    for index in range(3):
        sink.write(fused(index))
    shutil.rmtree(tmp_path / "rec")
    with pytest.raises(SinkError, match="cannot be finalised") as failed:
        sink.close()
    assert "partial" not in str(failed.value)
    assert sink.close().frames == 0


def test_a_recording_counts_only_segments_that_exist(tmp_path):
    sink = recorder(tmp_path / "rec" / "%H%M%S.mkv", segment_ns=S)
    for index in range(30):
        sink.write(fused(index))
    (kept,) = (file for file in videos(tmp_path / "rec") if ".partial." not in file.name)
    (tmp_path / "saved").mkdir()
    for file in (kept, kept.with_suffix(".jsonl")):
        shutil.copy(file, tmp_path / "saved")
    shutil.rmtree(tmp_path / "rec")
    write_until_error(sink, 30, 40)
    report = sink.close()
    assert report.frames == len(packets(tmp_path / "saved" / kept.name)) == 25
    assert (
        report.note
        == f"1 segment, {kept.name} to {kept.name}; 1 segment removed by another program while being written"
    )
    assert len(lines(tmp_path / "saved" / f"{kept.stem}.jsonl")) == 25
