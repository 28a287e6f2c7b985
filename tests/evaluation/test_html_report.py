"""The HTML report: self-contained, escaped, of limited size, and working in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusepipe.evaluation.metrics.registry import names_of
from fusepipe.evaluation.report.gallery import salient_patches
from fusepipe.evaluation.report.page import comparison_page
from fusepipe.evaluation.report.results import Comparison, Example, MethodResult, SetResult
from fusepipe.evaluation.scores import score_triple

NASTY = "<script>alert('x')</script>&\"'é"
CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def scene(seed: int, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, shape)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def comparison(names: tuple[str, ...] = ("stream", "pyramid", "mean", "max"), count: int = 3) -> Comparison:
    """A comparison of arbitrary images: a set of stills with a nasty name and a sequence."""
    metrics = names_of("paper")
    sets = []
    for index, title in enumerate((NASTY, "clip")):
        pairs = [(scene(10 * index + i), scene(10 * index + i + 5)) for i in range(count)]
        result = SetResult(title, [f"{NASTY}{i}" for i in range(count)], sequence=index == 1, notes=[NASTY])
        result.luminance = {"ir": [float(i.mean()) for i, _ in pairs], "vis": [float(v.mean()) for _, v in pairs]}
        result.examples = [Example(name, i, v) for name, (i, v) in zip(result.images, pairs, strict=True)]
        for step, name in enumerate(names):
            method = MethodResult(name, "numpy uint8 on cpu", ms_per_pair=[1.0 + step] * count)
            for example, (ir, vis) in zip(result.examples, pairs, strict=True):
                fused = cv2.addWeighted(ir, 0.3 + 0.1 * step, vis, 0.7 - 0.1 * step, 0)
                example.fused[name] = fused
                method.rows.append(score_triple(ir, vis, fused, metrics))
                method.luminance.append(float(fused.mean()))
            method.temporal = {"TR": 1.0, "LE": 0.1} if index else {}
            result.methods.append(method)
        sets.append(result)
    return Comparison(NASTY, metrics, "paper", sets, {NASTY: NASTY}, command=NASTY, versions={"fusepipe": "0"})


class Reader(HTMLParser):
    """Checks that elements nest and collects what the page refers to."""

    VOID = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.alts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """``<circle/>`` opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return comparison()


@pytest.fixture(scope="module")
def text(compared: Comparison) -> str:
    return comparison_page(compared)


def test_it_needs_nothing_else_and_nests(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.references and all(r.startswith(("data:image/", "#")) for r in reader.references)
    assert all(alt is not None for alt in reader.alts)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(|https?://", text)


def test_everything_from_the_user_is_escaped(text: str) -> None:
    assert "<script>alert" not in text and text.count("<script>") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&#34;&#39;é" in text


def test_it_shows_every_pair_and_method_and_the_definitions(text: str) -> None:
    assert text.count('<section class="pair"') == 6
    assert text.count('<img class="shown"') == 6 * 6
    assert text.count('class="patch a"') == text.count('class="patch b"') == 6 * 6
    assert text.count(" minus infrared") >= 6 * 4
    for name in names_of("paper"):
        assert f'<th scope="row">{name}</th>' in text
    assert "Brightness over time" in text and text.count('class="fused"') == 4


def test_images_are_left_out_beyond_the_size_and_counted(compared: Comparison, text: str) -> None:
    limit = len(text.encode()) - 100_000
    few = comparison_page(compared, max_bytes=limit)
    assert len(few.encode()) <= limit
    left = 6 - few.count('<section class="pair"')
    assert left > 0 and f"{left} further example pairs are not shown" in few
    none = comparison_page(compared, max_bytes=0)
    assert 'id="viewer"' not in none and "6 further example pairs" in none


def test_a_comparison_without_images_or_values() -> None:
    empty = comparison(count=1)
    for result in empty.sets:
        result.examples = []
        for method in result.methods:
            method.rows = [dict.fromkeys(empty.metrics)]
    text = comparison_page(empty)
    Reader().feed(text)
    assert 'id="viewer"' not in text and "nan" not in text.lower().split() and 'class="pair"' not in text


def test_patches_lie_where_a_source_stands_out() -> None:
    ir, vis = (np.full((100, 150), 90, np.uint8) for _ in range(2))
    ir[20:36, 100:112] = 220
    vis[60:80, 10:30] = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    hot, detail = salient_patches(ir, vis)
    assert hot.x <= 100 and hot.x + hot.side >= 110 and hot.y <= 22 and hot.y + hot.side >= 34
    assert abs(detail.x - 10) <= 4 and abs(detail.y - 60) <= 4
    assert salient_patches(ir[:20], vis[:20]) == []


# -- in a browser

DRIVE = """
<script>
const range = document.getElementById("wipe-range");
range.focus(); range.value = "20"; range.dispatchEvent(new Event("input"));
document.documentElement.dataset.clip = document.getElementById("wipe-over").style.clipPath;
const pair = document.getElementById("wipe-pair");
pair.selectedIndex = 4; pair.dispatchEvent(new Event("change"));
const right = document.getElementById("wipe-right");
right.value = "max"; right.dispatchEvent(new Event("change"));
document.documentElement.dataset.shown = document.getElementById("wipe-tag-right").textContent;
document.documentElement.dataset.said = range.getAttribute("aria-valuetext");
document.documentElement.dataset.wide = String(document.documentElement.scrollWidth > innerWidth);
</script></body>"""
WATCH = "<script>addEventListener('error', e => document.documentElement.dataset.fault = e.message);</script>"


def chromium(profile: Path, *args: str) -> str:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    profile.mkdir()
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *args]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr[-1000:]
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_script_and_the_wipe_work_in_a_browser(text: str, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(text.replace("<head>", f"<head>{WATCH}").replace("</body>", DRIVE), encoding="utf-8")
    dom = chromium(tmp_path / "profile", f"--window-size={width},900", "--dump-dom", file.as_uri())
    (root,) = re.findall(r"<html[^>]*>", dom)
    assert "data-fault" not in root and 'data-script="done"' in root, root
    assert 'data-wipe="20"' in root and 'data-clip="inset(0px 80% 0px 0px)"' in root, root
    assert 'data-shown="max"' in root and 'data-said="20 percent visible, the rest max"' in root, root
    assert 'data-wide="false"' in root, "the page is wider than the window"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 900), (500, 900)])
def test_a_screenshot_shows_the_page(text: str, tmp_path: Path, size: tuple[int, int]) -> None:
    file, shot = tmp_path / "report.html", tmp_path / "shot.png"
    file.write_text(text, encoding="utf-8")
    window = f"--window-size={size[0]},{size[1]}"
    chromium(tmp_path / "profile", window, f"--screenshot={shot}", file.as_uri())
    pixels = cv2.imread(str(shot))
    assert pixels.shape[1] == size[0]
    # a page in the light theme with a large image: neither blank nor unstyled
    assert tuple(pixels[3, 3]) == (243, 246, 246)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200


def test_attention_is_shown_where_a_method_provides_it() -> None:
    without = comparison(("stream", "mean"))
    assert "<summary>Attention</summary>" not in comparison_page(without)
    for example in without.sets[0].examples:
        example.attention["stream"] = np.full_like(example.ir, 153)
    shown = comparison_page(without)
    assert "stream: 40 to 60 % infrared" in shown
    assert shown.count("<summary>Attention</summary>") == len(without.sets[0].examples)
    assert 'alt="attention of stream"' in shown and 'alt="attention of mean"' not in shown
