"""Partners of files whose stems differ."""

import pytest

from fusepipe.pipeline.pairing.stem_matching import match_stems


@pytest.mark.parametrize(
    ("infrared", "visible"),
    [
        (["001_ir", "002_ir"], ["001_vis", "002_vis"]),
        (["IR1", "IR2", "IR10"], ["VIS1", "VIS2", "VIS10"]),
        (["DJI_20230501_0001_T", "DJI_20230501_0002_T"], ["DJI_20230501_0001_V", "DJI_20230501_0002_V"]),
        (["FLIR_07", "FLIR_08"], ["RGB_07", "RGB_08"]),
        (["a-thermal", "b-thermal"], ["a-rgb", "b-rgb"]),
        (["Tree_ir_3", "House_ir_3"], ["Tree_vis_3", "House_vis_3"]),
        (["left_1", "left_2"], ["right_1", "right_2"]),
        (["IMG_0100", "IMG_0101"], ["DSC00100x", "DSC00101x"]),
        (["夜景0_ir", "夜景1_ir"], ["夜景0_vis", "夜景1_vis"]),
    ],
)
def test_partners(infrared, visible):
    found = match_stems(infrared, visible)
    assert found is not None
    assert found.partners == dict(zip(infrared, visible, strict=True))


@pytest.mark.parametrize("infrared", [["1_ir", "2_ir", "3_ir"], ["3_ir", "9_ir"]])
def test_what_has_no_partner_is_left_out(infrared):
    found = match_stems(infrared, ["3_vis", "1_vis", "2_vis"])
    assert found is not None
    assert found.partners == {stem: stem.replace("ir", "vis") for stem in infrared if stem != "9_ir"}


@pytest.mark.parametrize(
    ("infrared", "visible"),
    [
        (["a", "b"], ["c", "d"]),
        (["1_a", "1_b"], ["1_c", "1_d"]),  # the number is not unique
        (["p1", "q01"], ["x1", "y2"]),  # two infrared images for one number
        (["1", "2", "3", "4", "5"], ["5x1", "6x7", "7x8", "8x9", "9x10"]),  # fewer than half
        ([], ["a"]),
    ],
)
def test_no_guess_where_it_is_not_clear(infrared, visible):
    assert match_stems(infrared, visible) is None


def test_the_message_says_how_with_an_example():
    found = match_stems(["001_ir"], ["001_vis"])
    assert str(found) == "paired by their names without the words for the camera: 001_ir with 001_vis"


def test_words_only():
    assert match_stems(["left_1", "left_2"], ["right_1", "right_2"], words_only=True) is None
    assert match_stems(["1_ir", "2_ir"], ["1_vis", "2_vis"], words_only=True) is not None
