"""CropRectangle, rotation and mirroring of a camera's image: each source, each pixel, and what does not fit."""

import subprocess
import threading

import av
import cv2
import numpy as np
import pytest
from helpers.telemetry_rows import lepton_words, rows_of

from fusepipe.core.camera_telemetry import TelemetryRows
from fusepipe.core.errors import SourceError
from fusepipe.core.frames import Band, Frame, Plane, UnreadableFrame
from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource
from fusepipe.pipeline.sources.files.image_reader import ImageOptions
from fusepipe.pipeline.sources.files.paged_image import PagedImageSource
from fusepipe.pipeline.sources.files.video_file import VideoFileSource
from fusepipe.pipeline.sources.reframing import AS_IT_IS, CropError, CropRectangle, Reframing

ROWS = np.random.default_rng(5).integers(0, 256, (384, 256), dtype=np.uint8)
LOWER = CropRectangle(0, 192, 256, 192)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [None, "horizontal", "vertical"])
@pytest.mark.parametrize("crop", [None, LOWER])
def test_crop_then_rotate_clockwise_then_flip(crop, rotate, flip):
    expected = ROWS if crop is None else ROWS[192:]
    expected = np.rot90(expected, -rotate // 90)
    expected = {None: expected, "horizontal": expected[:, ::-1], "vertical": expected[::-1]}[flip]
    reframing = Reframing(crop, rotate, flip)
    assert np.array_equal(reframing.pixels(ROWS), expected)
    assert np.array_equal(reframing.planes((Plane(ROWS),))[0].pixels, expected)
    colour = cv2.merge([ROWS, ROWS, ROWS])
    assert np.array_equal(reframing.pixels(colour)[..., 2], expected)
    assert reframing.size((256, 384)) == expected.shape[::-1]


def test_a_crop_alone_copies_nothing():
    cropped = Reframing(LOWER).planes((Plane(ROWS),))[0]
    assert np.shares_memory(cropped.pixels, ROWS) and cropped.pixels.shape == (192, 256)


@pytest.mark.parametrize("subsampling", [(2, 2), (2, 1), (1, 1)], ids=["420", "422", "444"])
@pytest.mark.parametrize(
    "reframing",
    [
        Reframing(CropRectangle(3, 5, 20, 11)),
        Reframing(CropRectangle(4, 6, 20, 12), 90),
        Reframing(CropRectangle(4, 6, 21, 13), 180, "vertical"),
        Reframing(None, 270),
        Reframing(flip="horizontal"),
    ],
    ids=repr,
)
def test_every_pixel_keeps_its_colour(subsampling, reframing):
    """The chroma is constant over each of its samples, so any crop and turn of it must be exact."""
    across, down = subsampling
    small = np.random.default_rng(1).integers(0, 256, (-(-33 // down), -(-45 // across)), dtype=np.uint8)
    full = small.repeat(down, 0).repeat(across, 1)[:33, :45]
    luma, chroma, _ = reframing.planes((Plane(full), Plane(small), Plane(small)))
    across, down = (-(-luma.width // chroma.width), -(-luma.height // chroma.height))
    enlarged = chroma.pixels.repeat(down, 0).repeat(across, 1)[: luma.height, : luma.width]
    assert np.array_equal(enlarged, luma.pixels)


@pytest.mark.parametrize(
    "crop", [CropRectangle(0, 193, 256, 192), CropRectangle(1, 0, 256, 10), CropRectangle(300, 0, 1, 1)]
)
def test_a_crop_that_does_not_fit_names_both_sizes(crop):
    for reframe in (Reframing(crop).size, lambda size: Reframing(crop).pixels(ROWS)):
        with pytest.raises(CropError, match=f"the crop of {crop.width}x{crop.height} at .* image of 256x384"):
            reframe((256, 384))


def counts():
    """A 16-bit image of 160x120 under two telemetry rows of random words, as some cameras send it."""
    image = np.linspace(7000, 9000, 160 * 120).astype(np.uint16).reshape(120, 160)
    return np.vstack([image, np.random.default_rng(0).integers(0, 65536, (2, 160), dtype=np.uint16)])


def video(folder, pixels, form, stored=None):
    path = folder / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], stored or form
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, form).reformat(format=stored or form)))
        container.mux(stream.encode(None))
    return path


def of_video(folder, pixels, band, reframing):
    return VideoFileSource(video(folder, pixels, "gray16le"), band, reframing=reframing)


def of_images(folder, pixels, band, reframing):
    cv2.imwrite(str(folder / "a.png"), pixels)
    return ImageFolderSource(folder, band, reframing=reframing)


def of_pages(folder, pixels, band, reframing):
    cv2.imwritemulti(str(folder / "a.tif"), [pixels, pixels])
    return PagedImageSource(folder / "a.tif", band, ImageOptions(reframing=reframing))


SOURCES = {"video": of_video, "images": of_images, "pages": of_pages}


def opened(source):
    """The properties and the frames of a source."""
    try:
        return source.open(), list(source.frames(threading.Event()))
    finally:
        source.close()


@pytest.mark.parametrize("kind", SOURCES)
def test_statistics_see_the_reframed_image_only(tmp_path, kind):
    pixels = counts()
    reframing = Reframing(CropRectangle(0, 0, 160, 120), 90, "vertical")
    info, frames = opened(SOURCES[kind](tmp_path, pixels, Band.INFRARED, reframing))
    assert (info.width, info.height) == (120, 160)
    assert info.levels.low >= 7000 and info.levels.high <= 9000
    expected = np.rot90(pixels[:120], -1)[::-1]
    assert all(np.array_equal(frame.luma.pixels, expected) for frame in frames) and frames


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_refuses_a_crop_that_does_not_fit(tmp_path, kind):
    source = SOURCES[kind](tmp_path, counts(), Band.INFRARED, Reframing(CropRectangle(0, 3, 160, 120)))
    with pytest.raises(SourceError, match=r"a\.|crop of 160x120 at \(0, 3\) does not fit into the image of 160x122"):
        source.open()
    source.close()


def test_an_image_that_is_too_small_later_is_skipped(tmp_path):
    for number, rows in enumerate((60, 40, 60)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), ROWS[:rows, :80])
    _, frames = opened(ImageFolderSource(tmp_path, Band.VISIBLE, reframing=Reframing(CropRectangle(0, 10, 80, 50))))
    assert [type(frame) for frame in frames] == [Frame, UnreadableFrame, Frame]
    assert "the image of 80x40" in frames[1].reason


def test_the_colour_is_that_of_the_part(tmp_path):
    grey_above_colour = np.zeros((96, 64, 3), np.uint8)
    grey_above_colour[:48] = ROWS[:48, :64, None]
    grey_above_colour[48:, :32] = (40, 90, 200)
    grey_above_colour[48:, 32:] = (190, 60, 30)
    path = video(tmp_path, grey_above_colour, "bgr24", "bgr0")
    colours = []
    for reframing in (AS_IT_IS, Reframing(CropRectangle(0, 0, 64, 48)), Reframing(CropRectangle(0, 48, 64, 48))):
        info, _ = opened(VideoFileSource(path, Band.INFRARED, reframing=reframing))
        colours.append(info.colour)
    assert colours == ["natural", "grey", "natural"]


def test_pixels_that_are_not_square_are_turned_as_well(tmp_path, ffmpeg):
    source = ["-f", "lavfi", "-i", "testsrc=s=64x48:d=0.04", "-vf", "setsar=4/3", "-c:v", "ffv1"]
    subprocess.run([ffmpeg, "-v", "error", *source, str(tmp_path / "a.mkv")], check=True, timeout=60)
    for rotate, aspect in ((0, "4/3"), (90, "3/4"), (180, "4/3")):
        _, frames = opened(VideoFileSource(tmp_path / "a.mkv", Band.VISIBLE, reframing=Reframing(rotate=rotate)))
        assert str(frames[0].pixel_aspect) == aspect


@pytest.mark.parametrize("kind", SOURCES)
def test_telemetry_rows_are_read_and_cut_off_before_the_crop(tmp_path, kind):
    image = counts()[:120]
    pixels = np.vstack([image, rows_of(lepton_words("imminent"), 160)])
    reframing = Reframing(CropRectangle(10, 0, 140, 120), 180, telemetry=TelemetryRows("lepton"))
    info, frames = opened(SOURCES[kind](tmp_path, pixels, Band.INFRARED, reframing))
    assert (info.width, info.height) == (140, 120) and info.notes == ()
    assert np.array_equal(frames[0].luma.pixels, image[::-1, 149:9:-1])
    assert (frames[0].telemetry.ffc, frames[0].telemetry.fpa_c) == ("imminent", 34.0)


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_that_are_no_telemetry_are_cut_off_with_a_note(tmp_path, kind):
    info, frames = opened(
        SOURCES[kind](tmp_path, counts(), Band.INFRARED, Reframing(telemetry=TelemetryRows("lepton")))
    )
    assert len(info.notes) == 1 and "no telemetry of a lepton" in info.notes[0]
    assert frames[0].luma.pixels.shape == (120, 160) and frames[0].telemetry is None


def test_an_image_of_telemetry_rows_only_is_refused():
    with pytest.raises(CropError, match="160x2 has no more than 2 telemetry rows"):
        Reframing(telemetry=TelemetryRows("lepton")).size((160, 2))
