"""The palettes of infrared views."""

from typing import get_args

import cv2
import numpy as np
import pytest

from fusepipe.core.colour import planes_to_bgr
from fusepipe.core.planes import Matrix, Plane, ValueRange
from fusepipe.core.view_settings import PALETTES
from fusepipe.pipeline.views.palettes import palette_bgr, palette_tables

RAMP = np.arange(256, dtype=np.uint8)


def lightness(palette):
    """CIE L* of its 256 entries."""
    return cv2.cvtColor(palette_bgr(palette)[None].astype(np.float32) / 255, cv2.COLOR_BGR2Lab)[0, :, 0]


@pytest.mark.parametrize("palette", PALETTES[1:])
@pytest.mark.parametrize("value_range", get_args(ValueRange))
@pytest.mark.parametrize("matrix", get_args(Matrix))
def test_a_palette_in_planes_has_its_colours(palette, value_range, matrix):
    """To the rounding of 8-bit chroma, which is coarser in the limited range."""
    tables = palette_tables(palette, matrix, value_range)
    planes = [Plane(table[None], 8, value_range) for table in (tables.luma, tables.cb, tables.cr)]
    shown = planes_to_bgr(planes, matrix)[0].astype(int)
    assert np.abs(shown - palette_bgr(palette)).max() <= (3 if value_range == "full" else 4)


@pytest.mark.parametrize("palette", [p for p in PALETTES[1:] if p not in ("black-hot", "rainbow")])
def test_what_is_hotter_is_lighter(palette):
    steps = np.diff(lightness(palette))
    assert steps.min() > -0.4, "to the 8 bits of the tables"
    assert steps.sum() > 60


def test_the_scientific_palettes_are_perceptually_uniform_and_a_rainbow_is_not():
    tenths = {name: np.diff(lightness(name)[np.linspace(0, 255, 11).astype(int)]) for name in PALETTES[1:]}
    for palette in ("inferno", "magma", "viridis", "cividis"):
        assert tenths[palette].min() > 0.5 * tenths[palette].max(), palette
    assert tenths["rainbow"].min() < -10


def test_white_hot_changes_nothing_and_grey_palettes_have_no_colour():
    tables = palette_tables("white-hot", "bt601", "full")
    assert tables.identity and not tables.coloured and (tables.luma == RAMP).all()
    for palette in ("white-hot", "black-hot"):
        grey = palette_tables(palette, "bt709", "limited")
        assert (grey.cb == 128).all() and (grey.cr == 128).all() and not grey.identity
    with pytest.raises(ValueError, match="'jet' is none of"):
        palette_bgr("jet")
