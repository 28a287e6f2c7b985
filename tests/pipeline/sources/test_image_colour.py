"""Grey, natural and false colours of an image."""

import cv2
import numpy as np
import pytest

from fusepipe.core.image_files import is_coloured, read_pixels
from fusepipe.pipeline.sources.image_colour import image_colour, palette_places
from fusepipe.pipeline.views.palettes import palette_bgr

RNG = np.random.default_rng(0)


def thermal():
    image = np.full((240, 320), 60, np.uint8)
    cv2.circle(image, (220, 150), 40, 230, -1)
    return cv2.add(cv2.GaussianBlur(image, (41, 41), 0), RNG.integers(0, 12, image.shape, np.uint8))


@pytest.mark.parametrize("name", ["JET", "RAINBOW", "TURBO", "INFERNO", "HOT", "PLASMA"])
@pytest.mark.parametrize("quality", [None, 80])
def test_palettes_are_false_colours(name, quality):
    image = cv2.applyColorMap(thermal(), getattr(cv2, f"COLORMAP_{name}"))
    if quality is not None:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert image_colour(image) == "false"


@pytest.mark.parametrize("name", ["JET", "RAINBOW", "HSV", "INFERNO", "ironbow"])
def test_false_colours_are_put_back_into_the_order_of_the_palette(name):
    grey = cv2.GaussianBlur(thermal(), (0, 0), 2)
    table = (
        palette_bgr("ironbow")
        if name == "ironbow"
        else cv2.applyColorMap(np.arange(256, dtype=np.uint8), getattr(cv2, f"COLORMAP_{name}")).reshape(256, 3)
    )
    if name in ("RAINBOW", "HSV"):  # from red to blue in OpenCV
        table = table[::-1]
    image = table[grey]
    places = palette_places(image)
    assert np.abs(places.astype(int) - grey).mean() < 3
    luma = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if name == "JET":
        assert np.corrcoef(luma.ravel(), grey.ravel())[0, 1] < 0.5, "its luma has another order"
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_COLOR)
    assert np.abs(palette_places(jpeg).astype(int) - grey).mean() < 8
    assert np.array_equal(palette_places(image.astype(np.uint16) * 257), places)
    assert palette_places(grey) is None and palette_places(cv2.merge([grey] * 3)) is None


def test_grey_images_are_grey_whatever_their_channels():
    grey = thermal()
    assert image_colour(grey) == "grey" == image_colour(cv2.merge([grey] * 3))
    assert image_colour(cv2.imdecode(cv2.imencode(".jpg", cv2.merge([grey] * 3))[1], cv2.IMREAD_COLOR)) == "grey"
    assert image_colour(grey.astype(np.uint16) * 200) == "grey"


@pytest.mark.parametrize(("cb", "cr"), [(129, 129), (127, 127), (126, 130), (128, 126)])
def test_chroma_that_is_a_step_beside_the_middle_is_grey(cb, cr):
    """As FFmpeg's encoders write grey images that were converted from RGB in limited range."""
    grey = thermal()
    ycrcb = cv2.merge([grey, np.full_like(grey, cr), np.full_like(grey, cb)])
    image = cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2BGR)
    assert image_colour(image) == "grey" == image_colour(image.astype(np.uint16) * 257)
    assert not is_coloured(image)


def test_a_strong_cast_is_a_colour():
    green = cv2.merge([thermal() // 2, thermal(), thermal() // 2])
    assert image_colour(green) == "natural" and is_coloured(green)


def test_natural_colours():
    image = cv2.resize(RNG.integers(0, 255, (12, 16, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    assert image_colour(image) == "natural"
    assert image_colour(image.astype(np.uint16) * 257) == "natural"


@pytest.mark.data
@pytest.mark.parametrize("name", ["tno/pairs", "roadscene", "msrs"])
def test_infrared_images_of_the_data_sets_are_recognised(data_dir, name):
    files = sorted((data_dir / name / "ir").iterdir())
    assert {path.name: kind for path in files if (kind := image_colour(read_pixels(path))) != "grey"} == {}


@pytest.mark.data
@pytest.mark.parametrize("name", ["roadscene", "msrs"])
def test_no_visible_image_of_the_data_sets_is_in_false_colours(data_dir, name):
    files = sorted((data_dir / name / "vis").iterdir())
    kinds = [image_colour(read_pixels(path)) for path in files]
    assert "false" not in kinds and "natural" in kinds
