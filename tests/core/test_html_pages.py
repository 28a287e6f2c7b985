"""The skeleton and the style sheet of all pages."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

import fusepipe
from fusepipe.core.html_pages import environment, style_sheet

COLOUR = re.compile(r"(--[a-z-]+): #([0-9a-f]{6}|[0-9a-f]{3})\b", re.IGNORECASE)


def rendered(**values: str) -> str:
    page = environment().from_string('{% extends "skeleton.html" %}{% block main %}{{ text }}{% endblock %}')
    return page.render({"title": "a page", "facts": [], "script": "", "style": style_sheet(), "text": "", **values})


def test_values_are_escaped_and_the_style_sheet_is_not() -> None:
    page = rendered(title="<b>&", text="<script>alert(1)</script>")
    assert "<title>&lt;b&gt;&amp; – fusepipe</title>" in page and "<script" not in page
    assert style_sheet() in page and '"Segoe UI"' in page


def test_a_page_without_a_script_forbids_scripts() -> None:
    assert "script-src" not in rendered()
    assert "script-src 'unsafe-inline'" in rendered(script="1;")


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="script"):
        environment().get_template("skeleton.html").render()


def templates() -> list[Path]:
    """The templates of all reports; the folders of the packages are found once."""
    root = Path(fusepipe.__file__).parents[1]
    return [
        path
        for folder in ("evaluation", "fusepipe/core", "fusepipe/workflows")
        for path in sorted((root / folder).rglob("templates/*.html"))
    ]


def test_tables_that_scroll_can_be_reached_and_scrolled_with_the_keyboard() -> None:
    """WCAG 2.2, 2.1.1: an element that scrolls has the focus in its turn, and says what it is."""
    found = [
        (path.name, tag) for path in templates() for tag in re.findall(r'<div class="scroll"[^>]*>', path.read_text())
    ]
    assert len(found) > 10
    named = re.compile(r'<div class="scroll" tabindex="0" role="region" aria-label="[A-Z][^"]+">')
    assert [(name, tag) for name, tag in found if not named.fullmatch(tag)] == []


def themes() -> list[dict[str, str]]:
    """The colours of the light and of the dark theme."""
    light, dark = re.findall(r":root \{([^}]*)\}", style_sheet())
    return [dict(COLOUR.findall(theme)) for theme in (light, dark)]


def luminance(colour: str) -> float:
    """Relative luminance of a hexadecimal colour, WCAG 2.2."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    levels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_both_themes_define_the_same_colours() -> None:
    light, dark = themes()
    assert light.keys() == dark.keys() and len(light) > 10
    assert luminance(light["--page"]) > 0.8 and luminance(dark["--page"]) < 0.05


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "below"),
    [
        *((text, below) for text in ("--ink", "--soft", "--accent") for below in ("--page", "--card")),
        *(("--on-state", state) for state in ("--good", "--fair", "--bad")),
        ("--on-accent", "--accent"),
        ("--fair", "--page"),  # warnings
        ("--bad", "--card"),  # an output that failed
    ],
)
def test_text_has_enough_contrast(theme: int, text: str, below: str) -> None:
    """At least 4.5 to 1, WCAG 2.2 success criterion 1.4.3."""
    one, other = (luminance(themes()[theme][name]) + 0.05 for name in (text, below))
    assert max(one, other) / min(one, other) >= 4.5
