"""The view that a viewer of the page asks for: query parameters to settings. A view is the viewer's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fusepipe.core.radiometry import ZERO_CELSIUS_K
from fusepipe.core.view_settings import (
    COLOURS,
    HOT_STYLES,
    MODES,
    PALETTES,
    PLAIN,
    AnnotationSettings,
    HotSettings,
    ViewSettings,
)

SHORT = {"side": "side-by-side"}  # names of earlier versions
CHOICES: dict[str, tuple[str, ...]] = {
    "view": MODES,
    "palette": PALETTES,
    "colour": COLOURS,
    "inset": ("infrared", "visible"),
    "hot": HOT_STYLES,
}
MAX_PERCENT = 100
MAX_ISOTHERMS = 7
NOTES = ("time", "state", "hottest", "scale_bar")  # that a viewer may switch on; "spots": those of the rig file


def wanted_view(query: Mapping[str, str], first: ViewSettings = PLAIN) -> ViewSettings:
    """The settings of a request; ``first`` has the spots, boxes and unit of the rig file.

    Raises ``ValueError`` with one line that names the parameter.
    """
    chosen: dict[str, Any] = {}
    for name, known in CHOICES.items():
        value = SHORT.get(query.get(name, ""), query.get(name, ""))
        if value and value not in known:
            raise ValueError(f"{name}: use one of {', '.join(known)}")
        if value:
            chosen["mode" if name == "view" else name] = value
    if "wipe" in query:
        wipe = _percent("wipe", query["wipe"]) / 100
        if chosen.get("mode") == "wipe":  # viewers of other modes share what is rendered
            chosen["wipe"] = wipe
    if style := chosen.pop("hot", ""):
        chosen["hot"] = _hot(style, query)
    if "isotherms" in query:
        levels = sorted({_celsius("isotherms", part) for part in query["isotherms"].split(",")})[:MAX_ISOTHERMS]
        chosen["isotherms_k"] = tuple(levels)
    if notes := query.get("annotate", ""):
        chosen["annotations"] = _annotations(notes.split(","), first.annotations)
    return ViewSettings(**chosen)


def _hot(style: Any, query: Mapping[str, str]) -> HotSettings:
    if "above" in query:
        return HotSettings(above_k=_celsius("above", query["above"]), style=style)
    percentile = _percent("percentile", query.get("percentile", "99"))
    if not 50 <= percentile < MAX_PERCENT:
        raise ValueError("percentile: use an integer from 50 to 99")
    return HotSettings(percentile=float(percentile), style=style)


def _annotations(notes: list[str], first: AnnotationSettings) -> AnnotationSettings:
    if unknown := [note for note in notes if note not in (*NOTES, "spots")]:
        raise ValueError(f"annotate: {unknown[0][:20]!r} is none of {', '.join(NOTES)}, spots")
    switched: dict[str, Any] = {note: True for note in notes if note in NOTES}
    placed: dict[str, Any] = {"spots": first.spots, "boxes": first.boxes} if "spots" in notes else {}
    return AnnotationSettings(**switched, **placed, unit=first.unit)


def _percent(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and int(value) <= MAX_PERCENT):
        raise ValueError(f"{name}: use an integer from 0 to 100")
    return int(value)


def _celsius(name: str, value: str) -> float:
    """Degrees Celsius to kelvin."""
    if not re.fullmatch(r"-?\d{1,4}(\.\d{1,2})?", value, re.ASCII) or float(value) <= -ZERO_CELSIUS_K:
        raise ValueError(f"{name}: use degrees Celsius, such as 60")
    return round(float(value) + ZERO_CELSIUS_K, 2)


def as_query(settings: ViewSettings) -> dict[str, Any]:
    """The parameters of settings that differ from the defaults, for the page's controls."""
    names = {"mode": "view", "palette": "palette", "colour": "colour", "inset": "inset"}
    given = {key: getattr(settings, name) for name, key in names.items()}
    query: dict[str, Any] = {key: given[key] for name, key in names.items() if given[key] != getattr(PLAIN, name)}
    if settings.wipe != PLAIN.wipe:
        query["wipe"] = round(100 * settings.wipe)
    if (hot := settings.hot) is not None:
        query["hot"] = hot.style
        if hot.above_k is not None:
            query["above"] = round(hot.above_k - ZERO_CELSIUS_K, 2)
        else:
            query["percentile"] = round(hot.percentile)
    if settings.isotherms_k:
        query["isotherms"] = ",".join(f"{kelvin - ZERO_CELSIUS_K:g}" for kelvin in settings.isotherms_k)
    notes = [note for note in NOTES if getattr(settings.annotations, note)]
    notes += ["spots"] if settings.annotations.spots or settings.annotations.boxes else []
    return query | ({"annotate": ",".join(notes)} if notes else {})
