"""Images as programs have them: what ``Fuser.fuse`` takes, gives back, and says about the rest."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

import fusepipe
from fusepipe.core.errors import UsageError
from fusepipe.core.fuser import FusionBatch

IR = np.tile(np.arange(0, 160, 2, dtype=np.uint8), (60, 1))
VIS = np.ascontiguousarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8)[:, None], (1, 80)))
COLOUR = np.dstack([VIS, VIS // 2, 255 - VIS])


@pytest.fixture(scope="module")
def fuser():
    with fusepipe.load_fuser("max") as one:
        yield one


def luma(bgr):
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb)[..., 0]


def test_grey_gives_grey(fuser):
    expected = np.maximum(IR, VIS)
    np.testing.assert_array_equal(fuser.fuse(IR, VIS), expected)
    np.testing.assert_array_equal(fuser.fuse(np.dstack([IR] * 3), VIS[..., None]), expected)
    np.testing.assert_array_equal(fuser.fuse(IR[:, ::-1], VIS[:, ::-1]), expected[:, ::-1])


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_colour_gives_the_fused_luma_in_the_visible_colours(fuser, channels):
    given = COLOUR if channels == "bgr" else COLOUR[..., ::-1]
    fused = fuser.fuse(IR, given, channels=channels)
    bgr = fused if channels == "bgr" else np.ascontiguousarray(fused[..., ::-1])
    y, cr, cb = cv2.split(cv2.cvtColor(COLOUR, cv2.COLOR_BGR2YCrCb))
    expected = cv2.cvtColor(cv2.merge([np.maximum(y, IR), cr, cb]), cv2.COLOR_YCrCb2BGR)
    np.testing.assert_array_equal(bgr, expected)
    opaque = fuser.fuse(IR, np.dstack([given, np.full_like(VIS, 255)]), channels=channels)
    np.testing.assert_array_equal(opaque, fused)


def test_counts_are_mapped_from_their_range(fuser):
    counts = IR.astype(np.uint16) * 10 + 7000
    black = np.zeros_like(VIS)
    fused = fuser.fuse(counts, black, infrared_range=(7000, 7000 + 2550))
    np.testing.assert_array_equal(fused, IR)
    twelve_bit = fuser.fuse(np.zeros_like(IR), COLOUR.astype(np.uint16) * 16, visible_range=(0, 255 * 16))
    np.testing.assert_array_equal(twelve_bit, fuser.fuse(np.zeros_like(IR), COLOUR))


def test_counts_that_leave_no_contrast_are_warned_of_with_the_range_that_helps(fuser):
    counts = IR.astype(np.uint16) * 10 + 7000
    with pytest.warns(UserWarning, match=r"infrared: counts 7\d\d\d\.\..* set infrared_range=\(\d+, \d+\)") as caught:
        fuser.fuse(counts, VIS)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"visible: .* set visible_range=\(") as caught:
        fuser.fuse(IR, VIS.astype(np.uint16) * 16)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fuser.fuse(IR.astype(np.uint16) * 400, VIS)


def test_an_infrared_image_in_colour_is_warned_of(fuser):
    with pytest.warns(UserWarning, match="infrared is in colour") as caught:
        fuser.fuse(COLOUR, VIS)
    assert caught[0].filename == __file__


def test_tensors_give_tensors_in_their_layout(fuser):
    torch = pytest.importorskip("torch")
    visible = torch.from_numpy(COLOUR.copy())
    expected = fuser.fuse(IR, COLOUR)
    last = fuser.fuse(torch.from_numpy(IR), visible)
    first = fuser.fuse(torch.from_numpy(IR)[None], visible.permute(2, 0, 1))
    grey = fuser.fuse(torch.from_numpy(IR), torch.from_numpy(VIS)[None])
    assert isinstance(first, torch.Tensor) and first.dtype == torch.uint8
    np.testing.assert_array_equal(last.numpy(), expected)
    np.testing.assert_array_equal(first.permute(1, 2, 0).numpy(), expected)
    assert grey.shape == (1, 60, 80)
    np.testing.assert_array_equal(grey[0].numpy(), np.maximum(IR, VIS))


@pytest.mark.parametrize(
    ("infrared", "visible", "message"),
    [
        (None, VIS, "infrared is None: cv2.imread gives None"),
        (IR, "vis.png", "visible is a path, 'vis.png': read the image first"),
        (Path("ir.png"), VIS, "infrared is a path, 'ir.png'"),
        ([[1, 2]], VIS, "infrared is a list: give a NumPy array or a PyTorch tensor"),
        (IR[:, :-4], COLOUR, r"infrared 76x60 and visible 80x60 \(width x height\) differ in size"),
        (IR, VIS.astype(np.float32) / 255, r"visible is float32: .*\(image \* 255\)\.round\(\)\.astype\(np\.uint8\)"),
        (IR.astype(np.int64), VIS, r"infrared is int64: .* image\.astype\(np\.uint16\)"),
        (IR > 3, VIS, r"infrared is bool: .* image\.astype\(np\.uint8\) \* 255"),
        (IR, COLOUR.transpose(2, 0, 1), r"visible has shape \(3, 60, 80\): .* image\.transpose\(1, 2, 0\)"),
        (IR[None, ..., None], VIS, r"infrared has shape \(1, 60, 80, 1\): .*; one image at a time: image\[0\]"),
        (IR[:0], VIS, r"infrared has shape \(0, 80\)"),
        (IR.ravel(), VIS, r"infrared has shape \(4800,\)"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_fused_is_named_in_one_line(fuser, infrared, visible, message):
    with pytest.raises(UsageError, match=message) as raised:
        fuser.fuse(infrared, visible)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "hsv"}, "channels = 'hsv' is neither"),
        ({"infrared_range": (9000, 7000)}, r"infrared_range = \(9000, 7000\): give \(black, white\)"),
        ({"visible_range": 255}, "visible_range = 255: give"),
    ],
)
def test_wrong_options_are_named(fuser, options, message):
    with pytest.raises(UsageError, match=message):
        fuser.fuse(IR, VIS, **options)


def test_a_batch_names_the_image_of_a_wrong_type_before_it_compares_sizes():
    with pytest.raises(UsageError, match=r"visible is uint8 of shape \(60, 80, 3\)"):
        FusionBatch((IR,), (COLOUR,))


def test_frames_of_arrays_keep_infrared_counts_and_visible_colours():
    counts = IR.astype(np.uint16) * 100
    infrared = fusepipe.frame_of_array(counts, "infrared", index=3, capture_ns=120_000_000)
    np.testing.assert_array_equal(infrared.luma.pixels, counts)
    assert (infrared.band, infrared.index, infrared.capture_ns, len(infrared.planes)) == ("infrared", 3, 120_000_000, 1)
    assert infrared.pts * infrared.time_base == pytest.approx(0.12) and infrared.arrival_ns > 0
    visible = fusepipe.frame_of_array(COLOUR, "visible", index=0, capture_ns=0)
    np.testing.assert_array_equal(visible.luma.pixels, luma(COLOUR))
    with pytest.raises(UsageError, match="visible is None"):
        fusepipe.frame_of_array(None, "visible", index=0, capture_ns=0)
