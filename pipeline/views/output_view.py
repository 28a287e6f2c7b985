"""The view of one output: a callable that makes what it shows of each fused frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fusepipe.core.frames import Frame, FusedFrame, Plane
from fusepipe.core.planes import Luma8
from fusepipe.core.view_settings import PLAIN, HotSettings, ViewMode, ViewSettings
from fusepipe.pipeline.views import hot_areas, modes
from fusepipe.pipeline.views.annotations import Thermal, annotated
from fusepipe.pipeline.views.hot_areas import HotLimit
from fusepipe.pipeline.views.palettes import looked_up, palette_tables
from fusepipe.pipeline.views.panels import (
    Panel,
    PlaneFormat,
    false_colours,
    infrared_luma,
    missing,
    panel_of,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame that is shown with settings in a format; ``outside``: 255 where the infrared camera sees nothing."""

    frame: FusedFrame
    settings: ViewSettings
    form: PlaneFormat
    outside: Luma8 | None

    @property
    def size(self) -> tuple[int, int]:
        return self.frame.width, self.frame.height

    def visible(self) -> Panel:
        visible = self.frame.pair.visible
        return missing(self.frame, self.form) if visible is None else panel_of(visible, self.size, self.form)

    def infrared(self) -> Panel:
        luma = infrared_luma(self.frame)
        if luma is None:
            return missing(self.frame, self.form)
        return false_colours(luma, self.settings.chosen_palette, self.form, self.outside)

    def thermal(self) -> Thermal | None:
        counts, luma = hot_areas.registered_counts(self.frame), infrared_luma(self.frame)
        if counts is None or luma is None:
            return None
        return Thermal(counts, luma, hot_areas.frame_radiometry(self.frame), self.outside)

    def as_fused(self) -> Panel:
        """The fused image with chroma at 4:2:0, to be composed with others."""
        return panel_of(self.frame, self.size, self.form)

    def fused(self) -> Panel:
        """The fused image with its own chroma, without visible colours where the settings say so."""
        fused = panel_of(self.frame, self.size, self.form, own_chroma=True)
        infrared, visible = infrared_luma(self.frame), self.frame.pair.visible
        if self.settings.colour == "visible" or infrared is None or visible is None:
            return fused
        tables = palette_tables("white-hot", self.form.matrix, self.form.value_range)
        luma = infrared if tables.identity else looked_up(infrared, tables.luma)
        plain = panel_of(visible, self.size, self.form).luma
        if self.outside is not None:
            luma = np.where(self.outside == 255, plain, luma)
        return modes.desaturated(fused, plain, luma)


class OutputView:
    """Makes an output's image of each fused frame; ``settings`` may be replaced by any thread between two frames.

    A plain view returns the frame itself. Others return a frame of the same time and state whose format (value range,
    matrix, with chroma or without) does not change while cameras come and go: encoders are opened for one.
    ``label`` is applied to them. ``live``: capture times are on the host's monotonic clock.
    """

    def __init__(
        self,
        settings: ViewSettings = PLAIN,
        label: Callable[[FusedFrame], FusedFrame] | None = None,
        *,
        live: bool = False,
    ) -> None:
        self.settings = settings
        self._label, self._live = label, live
        self._limit: tuple[HotSettings | None, HotLimit | None] = (None, None)
        self._form: PlaneFormat | None = None
        self._outside: tuple[str, Luma8 | None] = ("", None)

    def __call__(self, frame: FusedFrame) -> FusedFrame:
        settings = self.settings
        if settings.plain:
            return frame
        form = self._format(frame, settings)
        mode, visible = self._mode(frame, settings), frame.pair.visible
        drawn = settings.marks or settings.annotations.any
        if mode == "visible" and not drawn and visible is not None and _fits(visible, frame, form):
            return self._labelled(replace(frame, planes=visible.planes, matrix=visible.matrix))
        shown = Shown(frame, settings, form, self._outside_of(frame))
        panel = self._annotated(self._panel(mode, shown), mode, shown)
        planes = [Plane(panel.luma, 8, form.value_range)]
        if form.colour:
            planes += [Plane(chroma, 8, form.value_range) for chroma in panel.coloured()]
        return self._labelled(replace(frame, planes=tuple(planes), matrix=form.matrix))

    def _labelled(self, frame: FusedFrame) -> FusedFrame:
        return frame if self._label is None else self._label(frame)

    def _format(self, frame: FusedFrame, settings: ViewSettings) -> PlaneFormat:
        """The visible camera's, as soon as it has delivered a frame."""
        visible = frame.pair.visible
        if visible is not None:
            self._form = PlaneFormat(visible.luma.value_range, visible.matrix, len(frame.planes) == 3)
        elif self._form is None:
            self._form = PlaneFormat(frame.planes[0].value_range, frame.matrix, len(frame.planes) == 3)
        false = settings.mode not in ("fused", "visible") and settings.chosen_palette not in ("white-hot", "black-hot")
        return replace(self._form, colour=True) if false or settings.marks else self._form

    @staticmethod
    def _mode(frame: FusedFrame, settings: ViewSettings) -> ViewMode:
        """That of the settings; of ``blink`` the one whose turn it is."""
        if settings.mode != "blink":
            return settings.mode
        return "infrared" if frame.capture_ns // settings.blink_ns % 2 else "visible"

    def _panel(self, mode: ViewMode, shown: Shown) -> Panel:
        if mode == "fused":
            return self._marked(shown.fused(), shown)
        if mode == "infrared":
            return self._marked(shown.infrared(), shown)
        visible = shown.visible()
        return self._marked(visible, shown) if mode == "visible" else self._composed(mode, visible, shown)

    def _composed(self, mode: ViewMode, visible: Panel, shown: Shown) -> Panel:
        """One of the modes that show both cameras."""
        infrared, settings, form = shown.infrared(), shown.settings, shown.form
        if mode == "overlay":
            return self._marked(modes.overlaid(visible, infrared), shown)
        if mode == "edges-on-thermal":
            whole = shown.frame.pair.visible is not None
            return self._marked(modes.edges_on_thermal(infrared, visible.luma) if whole else infrared, shown)
        infrared = self._marked(infrared, shown)
        if mode == "side-by-side":
            return modes.beside(visible, infrared)
        if mode == "wipe":
            return modes.wiped(visible, infrared, settings.wipe, form)
        inset = infrared if settings.inset == "infrared" else visible
        return modes.picture_in_picture(self._marked(shown.as_fused(), shown), inset, form)

    def _annotated(self, panel: Panel, mode: ViewMode, shown: Shown) -> Panel:
        settings = shown.settings
        if not settings.annotations.any:
            return panel
        beside = panel.luma.shape[1] - shown.frame.width if mode == "side-by-side" else 0
        return annotated(
            panel,
            shown.frame,
            settings.annotations,
            shown.form,
            shown.thermal(),
            left=max(0, beside),
            palette=None if mode in ("fused", "visible") else settings.chosen_palette,
            live=self._live,
        )

    def _marked(self, panel: Panel, shown: Shown) -> Panel:
        """With its hot areas and isotherms; luma of the panel has the frame's size."""
        settings, frame = shown.settings, shown.frame
        counts = hot_areas.registered_counts(frame) if settings.marks else None
        if counts is None:
            return panel
        hot, radiometry = settings.hot, hot_areas.frame_radiometry(frame)
        if settings.isotherms_k and radiometry is not None:
            limits = [float(limit) for limit in radiometry.counts(settings.isotherms_k)]
            panel = hot_areas.with_isotherms(panel, counts, limits, shown.outside, shown.form)
        if hot is None or (limit := self._hot_limit(hot)(counts, shown.outside, frame)) is None:
            return panel
        area = hot_areas.area_at(counts, limit, shown.outside)
        if hot.style == "tint":
            return hot_areas.tinted(panel, area, shown.form)
        plain = settings.mode in ("fused", "visible")
        return hot_areas.outlined(panel, area, shown.form, "white-hot" if plain else settings.chosen_palette)

    def _hot_limit(self, settings: HotSettings) -> HotLimit:
        """That of these settings, which remembers the last frames."""
        known, limit = self._limit
        if limit is None or known != settings:
            limit = HotLimit(settings)
            self._limit = (settings, limit)
        return limit

    def _outside_of(self, frame: FusedFrame) -> Luma8 | None:
        """255 where the infrared camera sees nothing, at the frame's size; made once for each warp."""
        warp = frame.pair.warp
        if warp is None or warp.valid is None:
            return None
        if self._outside[0] != warp.version or self._outside[1] is None:
            seen = frame.pair.seen()
            assert seen is not None
            self._outside = (warp.version, np.asarray(255 - seen, np.uint8))
        outside = self._outside[1]
        assert outside is not None
        return None if outside.shape != (frame.height, frame.width) else outside


def _fits(visible: Frame, frame: FusedFrame, form: PlaneFormat) -> bool:
    """Whether the planes of the visible camera are an output's planes as they are."""
    same = (visible.width, visible.height) == (frame.width, frame.height)
    return same and visible.luma.pixels.dtype == np.uint8 and len(visible.planes) == (3 if form.colour else 1)
