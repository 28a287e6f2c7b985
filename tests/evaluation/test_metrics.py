"""Metrics: against public implementations, by hand on small images, and their invariances."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.luma import Variant
from fusepipe.evaluation.metrics.fidelity import vif, vif_sum
from fusepipe.evaluation.metrics.gradients import average_gradient, qabf, spatial_frequency
from fusepipe.evaluation.metrics.information import entropy, mutual_information, standard_deviation
from fusepipe.evaluation.metrics.registry import METRICS, measure, names_of
from fusepipe.evaluation.metrics.similarity import correlation, correlation_bound, scd, ssim, ssim_with

Triple = tuple[Luma8, Luma8, Luma8]
PAPER = ("MI", "CC", "VIF", "Qabf", "SCD", "SSIM")
ALONE = ("EN", "SD", "SF", "AG", "AG_matlab")
PAIRED = [name for name in METRICS if name not in ALONE]


def image(rows: list[list[int]]) -> Luma8:
    return np.array(rows, dtype=np.uint8)


def mean_rule(a: Luma8, b: Luma8) -> Luma8:
    return ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


@pytest.fixture
def triple() -> Triple:
    """Two smooth, related images with texture, and their mean; 181x163, so that all metrics apply."""
    rng = np.random.default_rng(7)

    def smooth() -> np.ndarray:
        return cv2.GaussianBlur(rng.normal(0.0, 1.0, (181, 163)), (0, 0), 2.0)

    shared, own_a, own_b = smooth(), smooth(), smooth()
    a, b = ((np.clip(128 + 180 * (shared + own), 0, 255)).astype(np.uint8) for own in (own_a, own_b))
    return a, b, mean_rule(a, b)


# --- against public implementations -----------------------------------------------------------

ORACLE: dict[str, Callable[[Luma8, Luma8, Luma8], float]] = {
    "EN_bits": METRICS["EN"].function,
    "SD": METRICS["SD"].function,
    "SF": METRICS["SF"].function,
    "AG": METRICS["AG"].function,
    "MSE": METRICS["MSE"].function,
    "MI_nats_sum": METRICS["MI_nats"].function,
    "CC_mean": correlation,
    "SCD": scd,
    "VIF_pixel_sum": vif_sum,
    "Qabf_atan": METRICS["Qabf_atan"].function,
    "SSIM_ir_L255_gauss11_valid": lambda ir, vis, fused: ssim_with(ir, fused),
    "SSIM_vis_L255_gauss11_valid": lambda ir, vis, fused: ssim_with(vis, fused),
}


@pytest.mark.data
@pytest.mark.parametrize("name", ORACLE)
def test_public_implementations(name: str, data_dir: Path) -> None:
    with (data_dir / "reference_results" / "metric_oracle.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == name]
    assert len(rows) == 10
    for row in rows:
        ir, vis = (
            cv2.imread(str(data_dir / "tno" / "pairs" / band / f"{row['image']}.png"), cv2.IMREAD_GRAYSCALE)
            for band in ("ir", "vis")
        )
        fused = mean_rule(ir, vis) if row["rule"] == "mean" else np.maximum(ir, vis)
        assert ORACLE[name](ir, vis, fused) == pytest.approx(float(row["value"]), rel=1e-6), row


@pytest.mark.data
@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        *(("mean", n, v) for n, v in zip(PAPER, (1.961, 0.770, 0.527, 0.269, 1.265, 0.587), strict=True)),
        *(("max", n, v) for n, v in zip(PAPER, (6.413, 0.610, 1.009, 0.475, 0.984, 0.497), strict=True)),
    ],
)
def test_paper_variants_on_the_tree_sequence(rule: str, name: str, expected: float, data_dir: Path) -> None:
    """The rows `mean` and `max` of TNO "Tree" (19 pairs) as computed when the variants were found."""
    values = []
    for path in sorted((data_dir / "tno" / "sequences" / "tree" / "ir").iterdir()):
        ir = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        vis = cv2.imread(str(path.parents[1] / "vis" / path.name), cv2.IMREAD_GRAYSCALE)
        fused = mean_rule(ir, vis) if rule == "mean" else np.maximum(ir, vis)
        values.append(METRICS[name].function(ir, vis, fused))
    assert len(values) == 19
    assert np.mean(values) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("variant", "dynamic_range"), [("common", 255.0), ("paper", 1.0)])
def test_ssim_is_that_of_scikit_image(triple: Triple, variant: Variant, dynamic_range: float) -> None:
    ir, vis, fused = triple
    expected = np.mean(
        [
            structural_similarity(
                source.astype(np.float64),
                fused.astype(np.float64),
                data_range=dynamic_range,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for source in (ir, vis)
        ]
    )
    assert ssim(ir, vis, fused, variant) == pytest.approx(expected, rel=1e-10)


# --- by hand -----------------------------------------------------------------------------------

HALF = image([[0, 255], [0, 255]])
STRIPES = image([[0, 0], [255, 255]])


def test_entropy_by_hand() -> None:
    assert entropy(HALF) == pytest.approx(1.0)
    assert entropy(image([[1, 2, 3, 4]])) == pytest.approx(2.0)
    assert math.copysign(1.0, entropy(image([[9, 9]]))) == 1.0


def test_standard_deviation_by_hand() -> None:
    assert standard_deviation(HALF) == 127.5


def test_mutual_information_by_hand() -> None:
    # HALF against itself: one bit; against STRIPES: independent
    assert mutual_information(HALF, STRIPES, HALF) == pytest.approx(1.0)
    assert mutual_information(HALF, HALF, HALF) == pytest.approx(2.0)
    assert mutual_information(HALF, HALF, HALF, "common") == pytest.approx(2.0 * math.log(2.0))


def test_correlation_by_hand() -> None:
    assert correlation(HALF, 255 - HALF, HALF) == 0.0
    assert correlation(HALF, STRIPES, HALF) == pytest.approx(0.5)
    # r of (1, 2, 3) with (1, 3, 2) is 0.5
    a, b = image([[1, 2, 3]]), image([[1, 3, 2]])
    assert correlation(a, b, a) == pytest.approx(0.75)
    assert correlation_bound(a, b) == pytest.approx(math.sqrt(0.75))


def test_scd_by_hand() -> None:
    # orthogonal sources, F their mean: F - VIS and IR correlate by sqrt(1/2), and so the other way round
    fused = image([[0, 128], [128, 255]])
    assert scd(HALF, STRIPES, fused) == pytest.approx(math.sqrt(2.0), abs=1e-2)
    total = image([[0, 100], [100, 200]])
    assert scd(image([[0, 100], [0, 100]]), image([[0, 0], [100, 100]]), total) == pytest.approx(2.0)


def test_spatial_frequency_by_hand() -> None:
    assert spatial_frequency(HALF) == 255.0
    assert spatial_frequency(image([[0, 3], [4, 7]])) == pytest.approx(5.0)


def test_average_gradient_by_hand() -> None:
    # a plane of slope 3 across and 4 down: sqrt((9 + 16) / 2) everywhere
    y, x = np.mgrid[0:5, 0:6]
    assert average_gradient((3 * x + 4 * y).astype(np.uint8)) == pytest.approx(math.sqrt(12.5))


def test_qabf_by_hand() -> None:
    """A vertical edge kept whole: ratio and angle agreement 1, so both sigmoids at their end."""
    edge = np.zeros((6, 6), np.uint8)
    edge[:, 3:] = 200
    flat = np.full((6, 6), 90, np.uint8)
    strength = 0.9994 / (1 + math.exp(-15 * 0.5))
    angle = 0.9879 / (1 + math.exp(-22 * 0.2))
    assert qabf(edge, flat, edge) == pytest.approx(strength * angle)
    # a reversed edge is lost for atan2, kept for atan (ir side only counts: vis has no edge inside)
    assert qabf(edge, flat, 200 - edge) < 1e-12
    inner = qabf(edge, flat * 0, 200 - edge, "common")
    assert inner > 0.2


def test_vif_grows_with_contrast_and_falls_with_blur(triple: Triple) -> None:
    ir = (triple[0] // 2 + 40).astype(np.uint8)
    assert vif(ir, ir) == pytest.approx(1.0, abs=1e-6)
    assert vif(ir, cv2.GaussianBlur(ir, (9, 9), 2.0)) < 0.7
    assert vif(ir, (ir.astype(np.int16) * 3 // 2 - 40).clip(0, 255).astype(np.uint8)) > 1.0
    assert vif(ir, 255 - ir) < 0.01


# --- properties --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRED)
def test_exchanging_the_sources_changes_nothing(name: str, triple: Triple) -> None:
    ir, vis, _ = triple
    fused = np.maximum(ir, vis)
    function = METRICS[name].function
    assert function(ir, vis, fused) == pytest.approx(function(vis, ir, fused), rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_strides_and_turning_by_half(name: str, triple: Triple) -> None:
    """Views of any stride give the same number; so does turning all images upside down.

    Exceptions: Q^AB/F in the paper's variant does not wrap angles, so that turning moves edges across the
    branch cut; halving keeps even rows, which are others when turned; regions start at the upper left; and
    FMI takes the nine samples of a window in an order of its own.
    """
    function = METRICS[name].function
    value = function(*triple)
    wide = [np.repeat(t, 2, axis=1)[:, ::2] for t in triple]
    assert function(*wide) == value
    tolerance = {"Qabf": 5e-2, "MS_SSIM": 1e-2}.get(name, 1e-9)
    if name not in ("VIF", "VIF_mean", "VIFF", "FMI", "Qcv"):
        turned = [t[::-1, ::-1] for t in triple]
        assert function(*turned) == pytest.approx(value, rel=tolerance)


def test_adding_a_constant_leaves_correlations(triple: Triple) -> None:
    ir, vis, fused = ((t // 2).astype(np.uint8) for t in triple)
    lifted = (fused + 60).astype(np.uint8)
    for function in (correlation, scd):
        assert function(ir, vis, lifted) == pytest.approx(function(ir, vis, fused), rel=1e-9)
    assert mutual_information(ir, vis, lifted) == pytest.approx(mutual_information(ir, vis, fused), rel=1e-9)


def test_correlation_never_exceeds_its_bound(triple: Triple) -> None:
    ir, vis, fused = triple
    bound = correlation_bound(ir, vis)
    rng = np.random.default_rng(1)
    for candidate in (ir, vis, fused, np.maximum(ir, vis), rng.integers(0, 256, ir.shape, np.uint8)):
        assert correlation(ir, vis, candidate) <= bound + 1e-12
    assert correlation(ir, vis, fused) == pytest.approx(bound, abs=0.02)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("constant", ["ir", "vis", "fused", "sources", "all"])
def test_constant_images_give_numbers(name: str, constant: str, triple: Triple) -> None:
    flat = np.full_like(triple[0], 77)
    ir, vis, fused = triple
    ir = flat if constant in ("ir", "sources", "all") else ir
    vis = flat if constant in ("vis", "sources", "all") else vis
    fused = flat if constant in ("fused", "all") else fused
    value = METRICS[name].function(ir, vis, fused)
    assert math.isfinite(value) or (name, constant) == ("PSNR", "all")
    if constant == "all":
        ones = ("SSIM", "SSIM_L255", "MS_SSIM", "VIF_mean", "VIFF", "FMI", "Qcb")
        expected = {**dict.fromkeys(ones, 1.0), "VIF": 2.0, "PSNR": math.inf}.get(name, 0.0)
        if name == "Qabf_atan":  # zero padding makes an edge of every border
            expected = value
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_identical_images(name: str, triple: Triple) -> None:
    ir = triple[0]
    value = METRICS[name].function(ir, ir, ir)
    ones = ("CC", "CC_bound", "SSIM", "SSIM_L255", "MS_SSIM", "VIF_mean", "VIFF", "FMI", "Qcb")
    zeros = ("SCD", "Nabf", "Qcv", "MSE")
    expected = {**dict.fromkeys(ones, 1.0), **dict.fromkeys(zeros, 0.0), "VIF": 2.0, "PSNR": math.inf}
    if name in expected:
        assert value == pytest.approx(expected[name], abs=1e-6)
    if name == "MI":
        assert value == pytest.approx(2.0 * entropy(ir))
    if name.startswith("Qabf"):
        assert 0.96 < value < 0.988


@pytest.mark.parametrize("name", METRICS)
def test_smallest_size(name: str) -> None:
    row = METRICS[name]
    rng = np.random.default_rng(3)
    size = row.minimum_px
    ir, vis, fused = (rng.integers(0, 256, (size, size), np.uint8) for _ in range(3))
    assert math.isfinite(row.function(ir, vis, fused))
    if size > 1:
        with pytest.raises(UsageError, match=f"at least {size}x{size}; ir is {size}x{size - 1}"):
            row.function(ir[1:], vis[1:], fused[1:])


# --- the table ---------------------------------------------------------------------------------


def test_table_rows_are_complete() -> None:
    for name, row in METRICS.items():
        assert row.name == name
        assert row.definition and row.span and row.source
        assert row.direction in ("higher", "lower", "bound")
    assert {m.variant for m in METRICS.values()} == {"paper", "common", None}


def test_measure_takes_names_and_refuses_unknown_ones(triple: Triple) -> None:
    assert list(measure(*triple)) == list(METRICS)
    assert measure(*triple, names=["CC"]) == {"CC": correlation(*triple)}
    with pytest.raises(UsageError, match=r"unknown metric 'SSIN'.*'SSIM'"):
        measure(*triple, names=["SSIN"])


@pytest.mark.parametrize("name", METRICS)
def test_wrong_images_are_refused(name: str, triple: Triple) -> None:
    ir, vis, fused = triple
    function = METRICS[name].function
    with pytest.raises(UsageError, match="one size; got ir 163x181, vis 163x181, fused 162x181"):
        function(ir, vis, fused[:, 1:])
    with pytest.raises(UsageError, match="vis is float32"):
        function(ir, vis.astype(np.float32), fused)
    with pytest.raises(UsageError, match=r"shape \(181, 163, 1\)"):
        function(ir[..., None], vis, fused)
    for channels in (3, 4):
        with pytest.raises(UsageError, match=rf"vis is uint8 of shape \(181, 163, {channels}\): convert it to luma"):
            function(ir, np.stack([vis] * channels, axis=2), fused)
    with pytest.raises(UsageError, match=r"ir is uint16 .*: map it to 8 bit first"):
        function(ir.astype(np.uint16), vis, fused)
    with pytest.raises(UsageError, match="has no pixels"):
        function(ir[:0], vis[:0], fused[:0])


def test_each_variant_gives_each_measure_once() -> None:
    assert names_of("all") == list(METRICS)
    paper, common = names_of("paper"), names_of("common")
    assert set(PAPER) <= set(paper)
    assert {"MI_nats", "SSIM_L255", "Qabf_atan", "VIFF", "VIF_mean", "AG_matlab"} <= set(common)
    assert not {"MI_nats", "SSIM_L255", "Qabf_atan", "VIFF", "VIF_mean", "AG_matlab"} & set(paper)
    assert not {"MI", "SSIM", "Qabf", "VIF", "AG"} & set(common)
    assert set(paper) & set(common) == {n for n, row in METRICS.items() if row.variant is None}
    with pytest.raises(UsageError, match="unknown metric variant 'papers'; known: paper, common, all"):
        names_of("papers")  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [mutual_information, ssim, qabf])
def test_unknown_variant_is_refused(function: Callable[..., float], triple: Triple) -> None:
    with pytest.raises(UsageError, match="unknown metric variant 'bits'"):
        function(*triple, variant="bits")
