"""Infrared images of more than 8 bits in comparisons: mapped as ``fusepipe fuse`` maps them, to the byte."""

import cv2
import numpy as np
import pytest
from helpers.flir import radiometric_jpeg

from fusepipe.core.errors import SourceError, UsageError
from fusepipe.rig.fuse import FuseOptions, fuse_pipeline
from fusepipe.workflows.infrared_lumas import InfraredLumas

Y, X = np.mgrid[:48, :64]


def scene(index):
    """14-bit counts, into which a hot square moves."""
    counts = 7000 + 4 * X + 3 * Y + np.random.default_rng(index).integers(0, 5, X.shape)
    counts[10:20, 20 : 20 + 4 * index] += 2500
    return counts.astype(np.uint16)


@pytest.fixture
def files(tmp_path):
    for folder in ("ir", "vis"):
        (tmp_path / folder).mkdir()
    for index in range(6):
        cv2.imwrite(str(tmp_path / "ir" / f"{index}.png"), scene(index))
        cv2.imwrite(str(tmp_path / "vis" / f"{index}.png"), np.zeros(X.shape, np.uint8))
    return sorted((tmp_path / "ir").iterdir())


@pytest.mark.parametrize("keys", [{}, {"agc": "local"}, {"agc": "off"}, {"range": (6900, 8000)}])
def test_they_are_what_fuse_shows_also_when_read_again(tmp_path, files, keys):
    options = {"value_range" if key == "range" else key: value for key, value in keys.items()}
    inputs = tmp_path / "ir", tmp_path / "vis", tmp_path / "out"
    fuse_pipeline(FuseOptions(*inputs, model="max", pair_by="name", **options)).run()
    shown = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted((tmp_path / "out").iterdir())]
    lumas = InfraredLumas(files, keys, keep=True)
    first = [lumas.read(index) for index in range(6)]
    assert len(shown) == 6 and all(np.array_equal(one, other) for one, other in zip(first, shown, strict=True))
    assert all(np.array_equal(lumas.read(index), first[index]) for index in (5, 0, 3))
    how = {"agc": "gain control: local", "range": "range 6900 to 8000"}.get(next(iter(keys), ""), "control: linear, ")
    assert (how if keys.get("agc") != "off" else "full range") in lumas.notes[0]


def test_8_bit_images_are_unchanged_and_need_no_note(tmp_path):
    grey = (X + 100).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    lumas = InfraredLumas([tmp_path / "a.png"], {}, keep=True)
    assert np.array_equal(lumas.read(0), grey) and lumas.notes == []
    stretched = InfraredLumas([tmp_path / "a.png"], {"agc": "linear"}, keep=True)
    assert np.ptp(stretched.read(0).astype(int)) > 150 and "linear" in stretched.notes[0]


def test_radiometric_jpeg_files_are_read_by_their_counts(tmp_path):
    counts = scene(2)
    (tmp_path / "a.jpg").write_bytes(radiometric_jpeg(counts, "png"))
    cv2.imwrite(str(tmp_path / "a.png"), counts)
    jpeg, png = (InfraredLumas([tmp_path / name], {}, keep=False).read(0) for name in ("a.jpg", "a.png"))
    assert np.array_equal(jpeg, png)


def test_warnings_about_counts_are_notes(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), (scene(0) + np.uint16(9150)) % 16384)
    lumas = InfraredLumas([tmp_path / "a.png"], {}, keep=False)
    lumas.read(0)
    assert any("wrap around at 16384" in note for note in lumas.notes)


def test_keys_that_contradict_each_other_and_files_that_are_no_images(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="remove one of them"):
        InfraredLumas([tmp_path / "a.png"], {"agc": "local", "range": (1, 2)}, keep=False)
    with pytest.raises(SourceError, match=r"a\.png: cannot be used"):
        InfraredLumas([tmp_path / "a.png"], {}, keep=False).read(0)
    with pytest.raises(SourceError, match=r"b\.png: cannot be read: No such file"):
        InfraredLumas([tmp_path / "b.png"], {}, keep=False).read(0)
