"""The view that a viewer of the page asks for: query parameters to settings. A view is the viewer's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fusepipe.core.view_settings import COLOURS, MODES, PALETTES, ViewSettings

SHORT = {"side": "side-by-side"}  # names of earlier versions
CHOICES: dict[str, tuple[str, ...]] = {
    "view": MODES,
    "palette": PALETTES,
    "colour": COLOURS,
    "inset": ("infrared", "visible"),
}
MAX_PERCENT = 100


def wanted_view(query: Mapping[str, str]) -> ViewSettings:
    """The settings of a request. Raises ``ValueError`` with one line that names the parameter."""
    chosen: dict[str, Any] = {}
    for name, known in CHOICES.items():
        value = SHORT.get(query.get(name, ""), query.get(name, ""))
        if not value:
            continue
        if value not in known:
            raise ValueError(f"{name}: use one of {', '.join(known)}")
        chosen["mode" if name == "view" else name] = value
    if "wipe" in query:
        wipe = _percent("wipe", query["wipe"]) / 100
        if chosen.get("mode") == "wipe":  # viewers of other modes share what is rendered
            chosen["wipe"] = wipe
    return ViewSettings(**chosen)


def _percent(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 3 and int(value) <= MAX_PERCENT):
        raise ValueError(f"{name}: use an integer from 0 to 100")
    return int(value)


def as_query(settings: ViewSettings) -> dict[str, Any]:
    """The parameters of settings that differ from the defaults, for the page's controls."""
    plain = ViewSettings()
    given = {f.name: getattr(settings, f.name) for f in fields(settings)}
    query = {name: value for name, value in given.items() if value != getattr(plain, name) and name != "blink_ns"}
    if "mode" in query:
        query["view"] = query.pop("mode")
    if "wipe" in query:
        query["wipe"] = round(100 * settings.wipe)
    return query
