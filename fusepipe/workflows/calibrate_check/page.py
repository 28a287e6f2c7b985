"""The page of ``fusepipe calibrate check``: one HTML file that needs nothing else and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.calibration.file.calibration import Calibration
from fusepipe.calibration.scene.residuals import Check, by_distance
from fusepipe.calibration.scene.search import ScenePair
from fusepipe.calibration.warp import build_warp
from fusepipe.core.frames import Luma8
from fusepipe.evaluation.report.pictures import MAX_WIDTH_PX, coloured_uri, picture_uri

MAX_PAIRS = 8
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WORDS = {"good": "Good", "fair": "Fair", "bad": "Not aligned", "unknown": "Cannot tell"}
REGIONS = ("upper", "middle", "lower")


@dataclass(frozen=True, slots=True)
class Checked:
    """A pair, and what was measured on it alone."""

    pair: ScenePair
    check: Check


def page(title: str, calibration: Calibration, overall: Check, pairs: Sequence[Checked], facts: Sequence[str]) -> str:
    """The whole report as one HTML document; at most ``MAX_PAIRS`` pairs are shown."""
    style = files("fusepipe.evaluation.report").joinpath("report.css").read_text("utf-8") + _STYLE
    word, text = overall.verdict
    shown = "".join(_pair(calibration, one) for one in pairs[:MAX_PAIRS])
    more = (
        f"<p>{len(pairs) - MAX_PAIRS} further pairs were measured and are not shown.</p>"
        if len(pairs) > MAX_PAIRS
        else ""
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} – fusepipe</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><p class="brand">fusepipe</p><h1>{escape(title)}</h1>'
        f'<p class="facts">{escape(" · ".join(facts))}</p></header>\n<main>'
        f'<section><p class="verdict {word}"><b>{WORDS[word]}.</b> {escape(text)}</p>'
        f"{_figures(overall, len(pairs))}</section>"
        f"<section><h2>Error by region</h2>{_regions(overall)}</section>"
        f"<section><h2>Error by distance</h2>{_distances(calibration)}</section>"
        f"<section><h2>Pairs</h2>{_HINT}{shown}{more}</section></main>\n</body>\n</html>\n"
    )


def _figures(check: Check, pairs: int) -> str:
    alone = f"{check.agreement.pairs_near} of {pairs}"
    pairs_alone = (("pairs that lie so by themselves", alone),) if pairs > 1 else ()
    seen = check.agreement
    across, down = (round(v, 1) + 0.0 for v in check.shift_px)  # no "-0.0"
    rows = (
        *pairs_alone,
        ("parts that agree with the calibration", f"{seen.near:.0%} of {seen.blocks}"),
        ("confidence", f"{seen.confidence:.2f}"),
        ("median residual", f"{check.median_px:.2f} px of {check.visible_size[0]}"),
        ("all of it is off by", f"{across:+.1f} px across, {down:+.1f} px down"),
        ("correlation of edges", f"{seen.correlation:.3f}"),
        ("the infrared camera sees", f"{seen.overlap:.0%} of the visible picture"),
    )
    body = "".join(f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
    return f"<div class='scroll'><table>{body}</table></div>"


def _regions(check: Check) -> str:
    head = "".join(f"<th scope='col'>{c}</th>" for c in ("left", "centre", "right"))
    rows = ""
    for name, row in zip(REGIONS, check.regions_px, strict=True):
        cells = "".join("<td>–</td>" if np.isnan(v) else f"<td>{v:.1f} px</td>" for v in row)
        rows += f"<tr><th scope='row'>{name}</th>{cells}</tr>"
    return (
        "<p class='hint'>Median residual of the parts of the picture that have one clear best place; – where too few "
        "have.</p>"
        f"<div class='scroll'><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _distances(calibration: Calibration) -> str:
    own = calibration.plane_distance_m
    found = None if own is None else by_distance(calibration, [own * f for f in (0.25, 0.5, 0.75, 1, 1.5, 2, 4, 20)])
    if found is None:
        return (
            "<p>This calibration holds for the distance it was made at and does not know where the cameras sit, so "
            "nothing can be said of others. A calibration from a board can.</p>"
        )
    rows = "".join(f"<tr><th scope='row'>{d:.3g} m</th><td>{px:.1f} px</td></tr>" for d, px in found)
    return (
        f'<p class="hint">Predicted by the geometry while the plane distance is {own:.3g} m.</p>'
        f"<div class='scroll'><table><thead><tr><th>things at</th><th>are off by</th></tr></thead>{rows}</table></div>"
    )


def _pair(calibration: Calibration, one: Checked) -> str:
    pair, check = one.pair, one.check
    registered, seen = registered_image(calibration, pair)
    # the border of the infrared view is no edge of the scene
    border = max(3, registered.shape[1] // 100)
    inside = cv2.erode(seen, np.ones((border, border), np.uint8), borderValue=255) // 255
    edges = _red_blue(np.asarray(_edges(registered) * inside, np.uint8), _edges(pair.visible))
    registered = np.asarray(registered * (seen // 255), np.uint8)
    blend = _red_blue(registered, pair.visible)
    arrows = _arrows(pair.visible, check)
    word, text = check.verdict
    blink = (
        f'<figure><div class="blink"><img alt="visible" src="{picture_uri(pair.visible)}">'
        f'<img class="over" alt="registered infrared" src="{picture_uri(registered)}"></div>'
        "<figcaption>Blink: visible, infrared</figcaption></figure>"
    )
    others = "".join(
        f'<figure><img class="picture" alt="{label}" src="{coloured_uri(image, MAX_WIDTH_PX)}">'
        f"<figcaption>{label}</figcaption></figure>"
        for label, image in (
            ("Edges: infrared red, visible blue, both violet", edges),
            ("Overlay: infrared red, visible blue", blend),
            ("Residuals, three times as long", arrows),
        )
    )
    return (
        f"<section class='pair'><h4>{escape(pair.name)} <small>{WORDS[word]}: {escape(text)}</small></h4>"
        f"<div class='tiles wide'>{blink}{others}</div></section>"
    )


def registered_image(calibration: Calibration, pair: ScenePair) -> tuple[Luma8, Luma8]:
    """The infrared image in the visible geometry, HxW uint8, and where the infrared camera sees, 255 or 0."""
    (ir_h, ir_w), (vis_h, vis_w) = pair.infrared.shape, pair.visible.shape
    warp = build_warp(calibration, (ir_w, ir_h), (vis_w, vis_h))
    whole = np.full((vis_h, vis_w), 255, np.uint8)
    if warp is None:
        return pair.infrared, whole
    return np.asarray(warp.apply(pair.infrared), np.uint8), whole if warp.valid is None else warp.valid


def _edges(luma: Luma8) -> Luma8:
    pixels = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), max(1.0, luma.shape[1] / 500))
    length = np.hypot(cv2.Sobel(pixels, cv2.CV_32F, 1, 0), cv2.Sobel(pixels, cv2.CV_32F, 0, 1))
    around = np.sqrt(cv2.GaussianBlur(length * length, (0, 0), luma.shape[1] / 25) + 9)
    return np.asarray(np.clip(length / around * 90, 0, 255), dtype=np.uint8)


def _red_blue(red: Luma8, blue: Luma8) -> NDArray[np.uint8]:
    """HxWx3 (B, G, R)."""
    return np.dstack([blue, np.minimum(red, blue) // 3, red])


def _arrows(visible: Luma8, check: Check) -> NDArray[np.uint8]:
    picture = np.asarray(cv2.cvtColor(visible // 2 + 40, cv2.COLOR_GRAY2BGR), np.uint8)
    thick = max(1, round(visible.shape[1] / 500))
    for residual in check.residuals:
        x, y = residual.place
        dx, dy = residual.off
        colour = (80, 220, 80) if residual.length_px < 0.004 * visible.shape[1] else (60, 110, 255)
        cv2.circle(picture, (round(x), round(y)), 2 * thick, colour, -1, cv2.LINE_AA)
        end = (round(x + 3 * dx), round(y + 3 * dy))
        cv2.arrowedLine(picture, (round(x), round(y)), end, colour, thick, cv2.LINE_AA, tipLength=0.25)
    return picture


_HINT = (
    '<p class="hint">Each residual arrow starts at a part of the infrared picture, and points to where it fits the '
    "visible one best (across its edges, where it has edges of one direction only); green is below 0.4 % of the "
    "width.</p>"
)
_STYLE = """
.verdict { font-size: 1.1rem; padding: 14px 18px; border-radius: 10px; background: var(--card); }
.verdict { border-left: 6px solid var(--soft); }
.verdict.good { border-color: var(--b); }
.verdict.fair { border-color: var(--ir); }
.verdict.bad { border-color: var(--a); }
.tiles.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
.picture, .blink img { width: 100%; display: block; border-radius: 6px; }
.blink { position: relative; }
.blink .over { position: absolute; inset: 0; animation: blink 1.6s steps(1) infinite; }
@keyframes blink { 50% { opacity: 0; } }
.scroll th[scope=row] { white-space: normal; }
@media (max-width: 500px) { .scroll th, .scroll td { padding: 6px 8px; } }
section.pair small { display: block; font-weight: 400; }
"""
