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
OutputColour = Literal["visible", "weighted", "grey"]
HotStyle = Literal["outline", "tint"]
TemperatureUnit = Literal["celsius", "fahrenheit", "kelvin"]
Inset = Literal["infrared", "visible"]

MODES: tuple[ViewMode, ...] = get_args(ViewMode)
PALETTES: tuple[Palette, ...] = get_args(Palette)
HOT_STYLES: tuple[HotStyle, ...] = get_args(HotStyle)
COLOURS: tuple[ViewColour, ...] = get_args(ViewColour)

FALSE_COLOUR_MODES = ("overlay", "edges-on-thermal")  # they need a palette with colours to be readable


@dataclass(frozen=True, slots=True)
class HotSettings:
    """What is hot: at least ``above_k`` kelvin or, without it, above ``percentile`` of the infrared image's pixels."""

    above_k: float | None = None
    percentile: float = 99.0
    style: HotStyle = "outline"


@dataclass(frozen=True, slots=True)
class AnnotationSettings:
    """What is written into the image. ``spots`` are (x, y), ``boxes`` (x, y, width, height), as shares of the frame."""

    time: bool = False
    state: bool = False
    hottest: bool = False
    spots: tuple[tuple[float, float], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    scale_bar: bool = False
    unit: TemperatureUnit = "celsius"

    @property
    def any(self) -> bool:
        return bool(self.time or self.state or self.hottest or self.spots or self.boxes or self.scale_bar)


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """``wipe`` is the share of the width left of the boundary, 0 to 1; ``blink_ns`` the time each camera is shown.

    ``hot`` and ``isotherms_k`` (kelvin, rising) are marked where the view shows the infrared or the fused image, and in
    the mode visible.
    """

    mode: ViewMode = "fused"
    palette: Palette = "auto"
    colour: ViewColour = "visible"
    inset: Inset = "infrared"
    wipe: float = 0.5
    blink_ns: int = 500_000_000
    hot: HotSettings | None = None
    isotherms_k: tuple[float, ...] = ()
    annotations: AnnotationSettings = AnnotationSettings()

    @property
    def chosen_palette(self) -> Palette:
        """``palette``; for ``auto`` inferno where the infrared image colours the visible one, else white-hot."""
        if self.palette != "auto":
            return self.palette
        return "inferno" if self.mode in FALSE_COLOUR_MODES else "white-hot"

    @property
    def plain(self) -> bool:
        """Whether the view is the fused frame as it is."""
        return self.mode == "fused" and self.colour == "visible" and not self.marks and not self.annotations.any

    @property
    def marks(self) -> bool:
        """Whether something is marked in colour."""
        return self.hot is not None or bool(self.isotherms_k)

    @property
    def needs_temperatures(self) -> bool:
        """Whether it marks temperatures, so that counts need a radiometry."""
        return bool(self.isotherms_k) or (self.hot is not None and self.hot.above_k is not None)


PLAIN = ViewSettings()
