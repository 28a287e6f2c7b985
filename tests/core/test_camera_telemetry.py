"""Telemetry rows of thermal cores: made from the tables of the datasheets, damaged, and of other cameras."""

import numpy as np
import pytest
from helpers.telemetry_rows import FFC, boson_words, lepton_words, rows_of

from fusepipe.core.camera_telemetry import CameraTelemetry, TelemetryRows, UnknownTelemetryError

IMAGE = np.full((120, 160), 8000, np.uint16)


def lepton(**values):
    return np.vstack([IMAGE, rows_of(lepton_words(**values), 160)])


def boson(width=640, **values):
    return np.vstack([rows_of(boson_words(width=width, **values), width), np.full((32, width), 7000, np.uint16)])


@pytest.mark.parametrize("ffc", FFC)
def test_lepton(ffc):
    assert TelemetryRows("lepton").read(lepton(ffc=ffc)) == CameraTelemetry(14, 70000, ffc, 34.0, 32.85, 70.0, 12.5)


@pytest.mark.parametrize("ffc", FFC)
def test_boson(ffc):
    rows = TelemetryRows("boson", above=True)
    assert rows.read(boson(ffc=ffc)) == CameraTelemetry(3, 100000, ffc, 33.05, None, 1700.0, 10.0)


def test_the_rows_are_cut_off_where_they_are():
    assert np.array_equal(TelemetryRows("lepton").cut(lepton()), IMAGE)
    assert TelemetryRows("boson", above=True).cut(boson()).shape == (32, 640)
    assert (TelemetryRows("boson", above=True).cut(boson()) == 7000).all()
    small = np.vstack([IMAGE[:60, :80], rows_of(lepton_words(), 80, 3)])
    assert np.array_equal(TelemetryRows("lepton").cut(small), IMAGE[:60, :80])
    assert TelemetryRows("lepton").read(small).frame == 70000
    assert TelemetryRows("other", 5).cut(lepton()).shape == (117, 160)
    assert TelemetryRows("other", 5).read(lepton()) is None


@pytest.mark.parametrize(
    ("rows", "image", "problem"),
    [
        (TelemetryRows("boson", above=True), boson(revision=4), "revision 4"),
        (TelemetryRows("boson", above=True), boson(revision=0x0300), "revision 768"),
        (TelemetryRows("lepton"), lepton(revision=0), "revision 0"),
        (TelemetryRows("lepton"), lepton(fpa_k100=65535), "382.2 degrees"),
        (TelemetryRows("boson", above=True), boson(fpa_k10=30620), "2788.85 degrees"),
        (TelemetryRows("lepton", 1), lepton()[:, :40], "40 of 80 words"),
        (TelemetryRows("boson", 1, above=True), boson(width=128), "128 of 142 words"),
        (TelemetryRows("lepton"), np.vstack([IMAGE, IMAGE[:2]]), "-193.15 degrees"),
        (TelemetryRows("lepton"), lepton().astype(np.uint8), "no 16-bit counts"),
    ],
)
def test_other_rows_are_not_taken_for_telemetry(rows, image, problem):
    with pytest.raises(UnknownTelemetryError, match=problem):
        rows.read(image)
