"""16-bit inputs that would come out as fog, nearly black or as contours are reported with the option that helps."""

import cv2
import numpy as np
import pytest

from fusepipe.rig.fuse import FuseOptions, fuse_pipeline
from fusepipe.rig.pipeline import Pipeline, load_rig

GREY = cv2.circle(np.full((120, 160), 60, np.uint8), (110, 75), 30, 230, -1)
COUNTS = (29315 + (GREY.astype(float) - 60) / 170 * 1500).astype(np.uint16)


@pytest.fixture
def images(tmp_path):
    dead = COUNTS.copy()
    dead[5, 5], dead[7, 9] = 0, 65535
    made = {
        "ir": GREY,
        "vis": cv2.merge([GREY] * 3),
        "fog": COUNTS,
        "dead": dead,
        "swapped": COUNTS.byteswap(),
        "vis12": cv2.merge([GREY] * 3).astype(np.uint16) * 16,
        "vis_swapped": COUNTS.byteswap(),
    }
    for name, pixels in made.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    return tmp_path


def fuse(folder, infrared, visible, **options):
    inputs = folder / f"{infrared}.png", folder / f"{visible}.png"
    report = fuse_pipeline(FuseOptions(*inputs, folder / "out.png", model="max", overwrite=True, **options)).run()
    return report.warnings, cv2.imread(str(folder / "out.png"), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("infrared", ["fog", "dead"])
def test_infrared_counts_in_fog_name_the_option(images, infrared):
    warnings, _ = fuse(images, infrared, "vis")
    assert any("use 2.3% of the range" in text and "set --range 28940 31190" in text for text in warnings), warnings
    warnings, _ = fuse(images, infrared, "vis", count_range=(28940, 31190))
    assert warnings == []


def test_visible_counts_that_come_out_nearly_black_name_the_option(images):
    warnings, dark = fuse(images, "ir", "vis12")
    assert any(text.startswith("visible: counts 960..3680 use") and "--visible-range" in text for text in warnings)
    warnings, bright = fuse(images, "ir", "vis12", visible_range=(280, 4360))
    assert warnings == [] and bright.max() > dark.max() - 30


@pytest.mark.parametrize("band", ["infrared", "visible"])
def test_swapped_bytes_are_named_and_put_right(images, band):
    if band == "infrared":
        inputs, order, span = ("swapped", "vis"), {"byte_order": "little"}, {"count_range": (28940, 31190)}
    else:
        inputs, order = ("ir", "vis_swapped"), {"visible_byte_order": "little"}
        span = {"visible_range": (28940, 31190)}
    warnings, _ = fuse(images, *inputs)
    option = "--byte-order little" if band == "infrared" else "--visible-byte-order little"
    assert [text for text in warnings if "swapped" in text and text.endswith(f"set {option}")]
    warnings, fused = fuse(images, *inputs, **order, **span)
    assert warnings == [] and fused[75, 110] > fused[10, 10] + 100


def test_a_rig_names_its_keys(images):
    (images / "rigs.yaml").write_text(
        "schema: 1\nrigs: {r: {infrared: {url: swapped.png}, visible: {url: vis12.png}, "
        "fusion: {model: max}, sinks: [{images: out}]}}"
    )
    report = Pipeline(load_rig(images / "rigs.yaml")).run()
    assert any(text.startswith("infrared:") and "set byte_order: little" in text for text in report.warnings)
    assert any(text.startswith("visible:") and "set range: [280, 4360]" in text for text in report.warnings)
