"""The view of one output: a callable that makes what it shows of each fused frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fusepipe.core.frames import Frame, FusedFrame, Plane
from fusepipe.core.planes import Luma8
from fusepipe.core.view_settings import PLAIN, ViewMode, ViewSettings
from fusepipe.pipeline.views import modes
from fusepipe.pipeline.views.palettes import looked_up, palette_tables
from fusepipe.pipeline.views.panels import (
    Panel,
    PlaneFormat,
    false_colours,
    infrared_luma,
    missing,
    panel_of,
)


class OutputView:
    """Makes an output's image of each fused frame; ``settings`` may be replaced by any thread between two frames.

    A plain view returns the frame itself. Others return a frame of the same time and state whose format (value range,
    matrix, with chroma or without) does not change while cameras come and go: encoders are opened for one.
    ``label`` is applied to them.
    """

    def __init__(self, settings: ViewSettings = PLAIN, label: Callable[[FusedFrame], FusedFrame] | None = None) -> None:
        self.settings = settings
        self._label = label
        self._form: PlaneFormat | None = None
        self._outside: tuple[str, Luma8 | None] = ("", None)

    def __call__(self, frame: FusedFrame) -> FusedFrame:
        settings = self.settings
        if settings.plain:
            return frame
        form = self._format(frame, settings)
        mode, visible = self._mode(frame, settings), frame.pair.visible
        if mode == "visible" and visible is not None and _fits(visible, frame, form):
            return self._labelled(replace(frame, planes=visible.planes, matrix=visible.matrix))
        panel = self._panel(mode, frame, settings, form)
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
        return replace(self._form, colour=True) if false else self._form

    @staticmethod
    def _mode(frame: FusedFrame, settings: ViewSettings) -> ViewMode:
        """That of the settings; of ``blink`` the one whose turn it is."""
        if settings.mode != "blink":
            return settings.mode
        return "infrared" if frame.capture_ns // settings.blink_ns % 2 else "visible"

    def _panel(self, mode: ViewMode, frame: FusedFrame, settings: ViewSettings, form: PlaneFormat) -> Panel:
        if mode == "fused":
            return self._desaturated(frame, form)
        if mode == "infrared":
            return self._infrared(frame, settings, form)
        visible = _visible(frame, form)
        return visible if mode == "visible" else self._composed(mode, visible, frame, settings, form)

    def _composed(
        self, mode: ViewMode, visible: Panel, frame: FusedFrame, settings: ViewSettings, form: PlaneFormat
    ) -> Panel:
        """One of the modes that show both cameras."""
        infrared = self._infrared(frame, settings, form)
        if mode == "side-by-side":
            return modes.beside(visible, infrared)
        if mode == "wipe":
            return modes.wiped(visible, infrared, settings.wipe, form)
        if mode == "overlay":
            return modes.overlaid(visible, infrared)
        if mode == "edges-on-thermal":
            return infrared if frame.pair.visible is None else modes.edges_on_thermal(infrared, visible.luma)
        inset = infrared if settings.inset == "infrared" else visible
        return modes.picture_in_picture(panel_of(frame, (frame.width, frame.height), form), inset, form)

    def _infrared(self, frame: FusedFrame, settings: ViewSettings, form: PlaneFormat) -> Panel:
        luma = infrared_luma(frame)
        if luma is None:
            return missing(frame, form)
        return false_colours(luma, settings.chosen_palette, form, self._outside_of(frame))

    def _desaturated(self, frame: FusedFrame, form: PlaneFormat) -> Panel:
        size = (frame.width, frame.height)
        fused, infrared, visible = panel_of(frame, size, form), infrared_luma(frame), frame.pair.visible
        if infrared is None or visible is None:
            return fused
        tables = palette_tables("white-hot", form.matrix, form.value_range)
        luma = infrared if tables.identity else looked_up(infrared, tables.luma)
        plain = panel_of(visible, size, form).luma
        if (outside := self._outside_of(frame)) is not None:
            luma = np.where(outside == 255, plain, luma)
        return modes.desaturated(fused, plain, luma)

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


def _visible(frame: FusedFrame, form: PlaneFormat) -> Panel:
    visible = frame.pair.visible
    return missing(frame, form) if visible is None else panel_of(visible, (frame.width, frame.height), form)
