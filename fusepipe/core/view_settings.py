"""What an output shows of each fused pair: settings of its view, plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ViewMode = Literal[
    "fused",
    "infrared",
    "visible",
    "side-by-side",
    "picture-in-picture",
    "wipe",
    "blink",
    "overlay",
    "edges-on-thermal",
]
Palette = Literal["auto", "white-hot", "black-hot", "inferno", "magma", "viridis", "cividis", "ironbow", "rainbow"]
ViewColour = Literal["visible", "desaturate"]
Inset = Literal["infrared", "visible"]

MODES: tuple[ViewMode, ...] = get_args(ViewMode)
PALETTES: tuple[Palette, ...] = get_args(Palette)
COLOURS: tuple[ViewColour, ...] = get_args(ViewColour)

FALSE_COLOUR_MODES = ("overlay", "edges-on-thermal")  # they need a palette with colours to be readable


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """``wipe`` is the share of the width left of the boundary, 0 to 1; ``blink_ns`` the time each camera is shown."""

    mode: ViewMode = "fused"
    palette: Palette = "auto"
    colour: ViewColour = "visible"
    inset: Inset = "infrared"
    wipe: float = 0.5
    blink_ns: int = 500_000_000

    @property
    def chosen_palette(self) -> Palette:
        """``palette``; for ``auto`` inferno where the infrared image colours the visible one, else white-hot."""
        if self.palette != "auto":
            return self.palette
        return "inferno" if self.mode in FALSE_COLOUR_MODES else "white-hot"

    @property
    def plain(self) -> bool:
        """Whether the view is the fused frame as it is."""
        return self.mode == "fused" and self.colour == "visible"


PLAIN = ViewSettings()
