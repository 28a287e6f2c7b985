"""Every file sink meets the contract of ``pipeline/sinks/base.py``; a new sink adds a line to ``MAKERS``."""

from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from fusepipe.core.errors import OutputExistsError, SinkError
from fusepipe.core.frames import Band, FramePair, FusedFrame, PairState, Plane
from fusepipe.core.segment_names import SegmentNames
from fusepipe.pipeline.sinks.files.images import ImageFileSink, ImageFolderSink
from fusepipe.pipeline.sinks.files.infrared import InfraredSink
from fusepipe.pipeline.sinks.files.recording import RecordingRules, RecordingSink
from fusepipe.pipeline.sinks.files.video import VideoOptions, VideoSink
from fusepipe.pipeline.testing import MS, frame

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))


def fused(index=0, pixels=RAMP, capture_ns=None, value_range="full", chroma=(), name="", matrix="bt601"):
    capture_ns = index * 40 * MS if capture_ns is None else capture_ns
    visible = frame(Band.VISIBLE, index, capture_ns, pixels=pixels)
    planes = (Plane(pixels, 8, value_range), *(Plane(c, 8, value_range) for c in chroma))
    visible = replace(visible, planes=planes, matrix=matrix)
    pair = FramePair(index, PairState.FUSED, Band.VISIBLE, visible, visible, 0)
    return FusedFrame(
        pair, planes, PairState.FUSED, index, capture_ns, visible.pts, visible.time_base, matrix, name=name
    )


def decode(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def luma(av_frame):
    plane = av_frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


MAKERS = {
    "mkv": lambda path, **o: VideoSink(path / "a.mkv", VideoOptions(), **o),
    "mp4": lambda path, **o: VideoSink(path / "a.mp4", VideoOptions(), **o),
    "mov": lambda path, **o: VideoSink(path / "a.mov", VideoOptions(), **o),
    "avi": lambda path, **o: VideoSink(path / "a.avi", VideoOptions(), **o),
    "webm": lambda path, **o: VideoSink(path / "a.webm", VideoOptions(), **o),
    "ffv1": lambda path, **o: VideoSink(path / "a.mkv", VideoOptions(codec="ffv1"), **o),
    "infrared": lambda path, **o: InfraredSink(
        VideoSink(path / "a.mkv", VideoOptions("ffv1", infrared="recorded"), **o)
    ),
    "images": lambda path, **o: ImageFolderSink(path / "images", **o),
    "image": lambda path, **o: ImageFileSink(path / "a.png", **o),
}
VIDEOS = ["mkv", "mp4", "mov", "avi", "webm", "ffv1", "infrared"]


def segments(path, **options):
    """Takes another name where its name is taken, so the tests of overwriting leave it out."""
    names, rules = SegmentNames(str(path / "%Y.mkv")), RecordingRules(segment_ns=1000 * MS)
    return RecordingSink(names, VideoOptions(), rules, live=False, engine=dict, sidecar=False, **options)


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    return lambda **options: MAKERS[request.param](tmp_path / "new" / "folder", **options)


@pytest.fixture(params=[*MAKERS, "segments"])
def make_any(request, tmp_path):
    maker = MAKERS.get(request.param, segments)
    return lambda **options: maker(tmp_path / "new" / "folder", **options)


def test_writes_reports_and_leaves_nothing_else(make_any, tmp_path):
    sink = make_any()
    sink.check()
    sink.write(fused())
    report = sink.close()
    assert report.frames == 1 and report.bytes > 0
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 1 and files[0].stat().st_size == report.bytes
    assert "partial" not in files[0].name
    assert sink.close() == report, "close may be called twice"


def test_check_changes_nothing(make_any, tmp_path):
    make_any().check()
    assert list(tmp_path.iterdir()) == []


def test_close_without_frames_leaves_no_file(make_any, tmp_path):
    sink = make_any()
    sink.check()
    assert sink.close().frames == 0
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_refuses_to_overwrite_and_keeps_the_old_until_the_new_is_complete(make, tmp_path):
    first = make()
    first.write(fused())
    first.close()
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
    old = file.read_bytes()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        make().check()
    second = make(overwrite=True)
    second.check()
    second.write(fused(pixels=255 - RAMP))
    if not isinstance(second, (ImageFolderSink, ImageFileSink)):
        assert file.read_bytes() == old, "the old video stays until the new one is closed"
    second.close()
    assert file.read_bytes() != old


@pytest.mark.parametrize("kind", VIDEOS)
def test_frames_and_timestamps_are_preserved(kind, tmp_path):
    sink = MAKERS[kind](tmp_path, fps=25)
    times_ms = [1000, 1040, 1075, 1200, 2200]
    for index, time_ms in enumerate(times_ms):
        sink.write(fused(index, capture_ns=time_ms * MS))
    report = sink.close()
    av_frames = decode(report.path)
    # AVI: in slots of 40 ms, and FFmpeg guesses presentation times; those of decoding are in the file
    expected_ms = [0, 40, 80, 200, 1200] if kind == "avi" else [t - 1000 for t in times_ms]
    found = [p.dts if kind == "avi" else p.pts for p in av_frames]
    assert [round(float(t * p.time_base) * 1000) for t, p in zip(found, av_frames, strict=True)] == expected_ms
    for av_frame in av_frames:
        assert np.abs(luma(av_frame).astype(int) - RAMP).mean() < 1.5


@pytest.mark.parametrize("value_range", ["full", "limited"])
@pytest.mark.parametrize("kind", VIDEOS)
def test_the_value_range_is_marked_and_codes_are_kept(kind, value_range, tmp_path):
    black, white = (0, 255) if value_range == "full" else (16, 235)
    pixels = np.full((48, 64), black, np.uint8)
    pixels[:, 32:] = white
    sink = MAKERS[kind](tmp_path)
    sink.write(fused(pixels=pixels, value_range=value_range))
    (av_frame,) = decode(sink.close().path)
    assert av_frame.color_range == (2 if value_range == "full" else 1)
    assert luma(av_frame)[24, [4, 60]].tolist() == [black, white]


def test_ffv1_is_lossless_at_odd_sizes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47), dtype=np.uint8)
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions(codec="ffv1"))
    sink.write(fused(pixels=pixels))
    (av_frame,) = decode(sink.close().path)
    assert np.array_equal(luma(av_frame), pixels)


@pytest.mark.parametrize("shape", [(33, 47), (1, 1), (4, 4), (50, 8000)])
def test_h264_accepts_any_size_and_reports_padding(shape, tmp_path):
    pixels = np.full(shape, 130, np.uint8)
    chroma = [np.full(((shape[0] + 1) // 2, (shape[1] + 1) // 2), c, np.uint8) for c in (100, 160)]
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions())
    sink.write(fused(pixels=pixels, chroma=chroma))
    report = sink.close()
    (av_frame,) = decode(report.path)
    assert (av_frame.height, av_frame.width) == tuple(n + n % 2 for n in shape)
    assert bool(report.note) == bool(shape[0] % 2 or shape[1] % 2)
    assert np.abs(luma(av_frame).astype(int) - 130).max() <= 1


def test_chroma_passes_through_and_grey_stays_grey(tmp_path):
    chroma = [np.full((24, 32), c, np.uint8) for c in (90, 170)]
    colour = VideoSink(tmp_path / "colour.mkv", VideoOptions(codec="ffv1"))
    colour.write(fused(chroma=chroma))
    (av_frame,) = decode(colour.close().path)
    assert [int(np.frombuffer(memoryview(p), np.uint8)[0]) for p in av_frame.planes[1:]] == [90, 170]
    grey = VideoSink(tmp_path / "grey.mkv", VideoOptions())
    grey.write(fused())
    (av_frame,) = decode(grey.close().path)
    for plane in av_frame.planes[1:]:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        assert np.all(rows == 128)


def test_frames_of_another_size_are_refused_with_the_fix(tmp_path):
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions())
    sink.write(fused())
    with pytest.raises(SinkError, match=r"pair 1 is 10x8, the video 64x48; use an images sink"):
        sink.write(fused(1, np.zeros((8, 10), np.uint8)))
    assert sink.close().frames == 1
    assert len(decode(tmp_path / "a.mkv")) == 1, "what was written is finalised"


def test_the_partial_file_of_a_killed_run_is_not_overwritten(tmp_path):
    (tmp_path / "a.partial.mkv").write_bytes(b"an hour of recording")
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions())
    with pytest.raises(OutputExistsError, match=r"a\.partial\.mkv: left over from an interrupted run"):
        sink.check()
    assert (tmp_path / "a.partial.mkv").read_bytes() == b"an hour of recording"


def test_two_runs_never_write_one_file(tmp_path):
    first = VideoSink(tmp_path / "a.mkv", VideoOptions())
    second = VideoSink(tmp_path / "a.mkv", VideoOptions())
    first.check()
    second.check()
    first.write(fused())
    with pytest.raises(OutputExistsError):
        second.write(fused())
    second.close()
    assert len(decode(first.close().path)) == 1


def test_a_running_recording_is_safe_from_overwrite(tmp_path):
    first = VideoSink(tmp_path / "a.mkv", VideoOptions(), overwrite=True)
    first.write(fused())
    second = VideoSink(tmp_path / "a.mkv", VideoOptions(), overwrite=True)
    with pytest.raises(OutputExistsError, match="is being written by another run"):
        second.check()
    first.write(fused(1))
    assert len(decode(first.close().path)) == 2
    second.check()


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_created_meanwhile_is_not_overwritten(kind, tmp_path):
    sink = MAKERS[kind](tmp_path)
    sink.check()
    video = kind in VIDEOS
    if video:
        sink.write(fused())
    target = {"ffv1": "a.mkv", "infrared": "a.mkv", "images": "images/000000.png", "image": "a.png"}.get(
        kind, f"a.{kind}"
    )
    (tmp_path / target).parent.mkdir(exist_ok=True)
    (tmp_path / target).write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        sink.close() if video else sink.write(fused())
    assert (tmp_path / target).read_bytes() == b"precious"
    if video:
        (kept,) = tmp_path.glob("a.partial.*")
        assert len(decode(kept)) == 1, "the recording is kept under its partial name"


def test_the_shape_of_pixels_is_kept(tmp_path):
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions())
    sink.write(replace(fused(), pixel_aspect=Fraction(64, 45)))
    with av.open(sink.close().path) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


def test_chroma_of_any_subsampling_becomes_4_2_0(tmp_path):
    gradient = np.linspace(60, 200, 64).astype(np.uint8)[None, :].repeat(48, 0)
    expected = None
    for shape in ((48, 64), (48, 32), (24, 32), (12, 16), (48, 16)):
        chroma = [cv2.resize(gradient, shape[::-1], interpolation=cv2.INTER_AREA)] * 2
        sink = VideoSink(tmp_path / f"{shape}.mkv", VideoOptions(codec="ffv1"))
        sink.write(fused(chroma=chroma))
        (av_frame,) = decode(sink.close().path)
        plane = av_frame.planes[1]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        expected = rows.astype(int) if expected is None else expected
        assert np.abs(rows - expected).max() <= 8, shape


def test_other_images_of_a_folder_are_mentioned(tmp_path):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"old{index}.png"), RAMP)
    sink = ImageFolderSink(tmp_path, overwrite=True)
    sink.write(fused())
    assert sink.close().note == "3 earlier images kept"


def test_a_long_name_is_refused_with_the_reason_before_anything_is_written(tmp_path):
    with pytest.raises(SinkError, match="the name is too long"):
        VideoSink(tmp_path / ("x" * 250 + ".mkv"), VideoOptions()).check()
    sink = ImageFolderSink(tmp_path)
    sink.write(fused(name="x" * 240))
    assert sink.close().frames == 1


def test_a_symbolic_link_is_not_followed_into_another_file(tmp_path):
    """The partial file is always created, so a link planted there cannot redirect the recording."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep")
    (tmp_path / "a.partial.mkv").symlink_to(victim)
    sink = VideoSink(tmp_path / "a.mkv", VideoOptions(), overwrite=True)
    sink.write(fused())
    sink.close()
    assert victim.read_bytes() == b"keep"


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_path_that_is_a_folder(kind, tmp_path):
    (tmp_path / ("a.mkv" if kind in ("ffv1", "infrared") else f"a.{kind}")).mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        MAKERS[kind](tmp_path).check()


def test_an_images_path_that_is_a_file(tmp_path):
    (tmp_path / "images").write_text("")
    with pytest.raises(SinkError, match="is a file; images need a folder"):
        ImageFolderSink(tmp_path / "images").check()


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="is a file, not a folder"):
        VideoSink(tmp_path / "file" / "a.mkv", VideoOptions()).check()


@pytest.mark.parametrize("image_format", ["png", "tif"])
def test_images_are_named_by_stem_and_lossless(image_format, tmp_path):
    sink = ImageFolderSink(tmp_path, image_format)
    sink.write(fused(0, name="scene_7"))
    sink.write(fused(1))
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"000001.{image_format}", f"scene_7.{image_format}"]
    assert np.array_equal(cv2.imread(str(tmp_path / f"scene_7.{image_format}"), cv2.IMREAD_UNCHANGED), RAMP)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("value_range", ["full", "limited"])
def test_images_of_video_colours_agree_with_ffmpeg(matrix, value_range, tmp_path):
    """A flat colour through our conversion and through FFmpeg's, within rounding."""
    codes = (120, 90, 170)
    chroma = [np.full((24, 32), c, np.uint8) for c in codes[1:]]
    made = fused(pixels=np.full((48, 64), codes[0], np.uint8), chroma=chroma, value_range=value_range, matrix=matrix)
    sink = ImageFolderSink(tmp_path)
    sink.write(made)
    sink.close()
    ours = cv2.imread(str(tmp_path / "000000.png"))[24, 32].astype(int)
    av_frame = av.VideoFrame.from_ndarray(
        np.concatenate([np.full((48, 64), codes[0], np.uint8), *(c.reshape(-1, 64) for c in chroma)]), "yuv420p"
    )
    theirs = av_frame.to_ndarray(
        format="bgr24",
        src_colorspace="ITU601" if matrix == "bt601" else "ITU709",
        src_color_range=2 if value_range == "full" else 1,
        dst_color_range=2,
    )[24, 32].astype(int)
    assert np.abs(ours - theirs).max() <= 3
