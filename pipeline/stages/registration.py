"""Registration stage: warps the infrared plane into the visible camera's geometry.

Attaches the :class:`~fusepipe.core.frames.Warp` and the warped raw counts to the pair. Warps are built once for each
combination of image sizes and cached; the cache is bounded for folders of images of many sizes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fusepipe.calibration.warp import RemapWarp
from fusepipe.core.frames import FramePair, Plane, Size, Warp
from fusepipe.pipeline.stages.local_registration import LocalRegistration

WarpBuilder = Callable[[Size, Size], Warp | None]
Placed = tuple[Warp | None, int]
"""A warp, and how many times the visible size it leads to is halved."""

MAX_SHRINK = 1.2
"""A pixel of the registered image may be this much larger than an infrared one: a third less CPU time at 1280x720. On
five of six data sets no metric loses more than 2 %; RoadScene pays a tenth of Qabf (docs/measurements/speed.md)."""
TRIED_LEVELS = 3  # halvings at which a view of 8 visible pixels still is one
MAX_WARPS = 8  # each takes about 7 bytes per visible pixel


class Registration:
    """Applies the warp for the sizes of each pair.

    ``build`` takes the infrared and the visible size, (width, height) each, and returns ``None`` for an identity.
    ``visible_size`` is used for pairs before the first visible frame. Without ``apply`` the warp is only attached, for
    an engine that warps. ``max_visible_levels``: the infrared image is registered at a half, a quarter ... of the
    visible size, this many halvings at most, as long as that keeps nearly all of its detail. ``local`` moves the
    registered image locally; it needs ``apply``. Any thread may call :meth:`replace`: the next pair gets the new warp.
    """

    def __init__(
        self,
        build: WarpBuilder,
        visible_size: Size,
        *,
        apply: bool = True,
        max_visible_levels: int = 0,
        local: LocalRegistration | None = None,
    ) -> None:
        if local is not None and not apply:
            raise ValueError("local alignment needs apply")
        self._local = local
        self._identity: RemapWarp | None = None
        self._apply = apply
        self._max_levels = max_visible_levels if apply else 0
        # the builder and its warps are replaced together
        self._made: tuple[WarpBuilder, OrderedDict[tuple[Size, Size], Placed]] = (build, OrderedDict())
        self._visible_size = visible_size
        self._infrared_size: Size | None = None

    def replace(self, build: WarpBuilder) -> None:
        """Replaces the builder from the next pair on; builds the warp for the sizes of the last pair.

        Raises what the builder raises; the old builder is kept then.
        """
        warps: OrderedDict[tuple[Size, Size], Placed] = OrderedDict()
        if self._infrared_size is not None:
            key = self._infrared_size, self._visible_size
            warps[key] = self._built(build, *key)
        self._made = (build, warps)

    def visible_levels(self, infrared: Size, visible: Size) -> int:
        """How many times pairs of these sizes have the visible size halved; builds their warp."""
        return self._warp(infrared, visible)[1]

    def __call__(self, pair: FramePair) -> FramePair:
        if pair.visible is not None:
            self._visible_size = (pair.visible.width, pair.visible.height)
        if pair.infrared is None:
            return pair
        plane = pair.infrared.luma
        self._infrared_size = (plane.width, plane.height)
        warp, visible_levels = self._warp((plane.width, plane.height), self._visible_size)
        if self._local is not None:
            moved = replace(plane, pixels=self._local.apply(pair, warp or self._same(), self._visible_size[0]))
            return replace(pair, warp=warp, registered=moved, visible_levels=visible_levels, moved_locally=True)
        if warp is None:
            return replace(pair, registered=plane, visible_levels=visible_levels)
        if not self._apply:
            return replace(pair, warp=warp, registered=plane, engine_warps=True)
        warped = Plane(warp.apply(plane.pixels), plane.bit_depth, plane.value_range, plane.device)
        return replace(pair, warp=warp, registered=warped, visible_levels=visible_levels)

    def _same(self) -> Warp:
        """The warp of images that are taken as registered."""
        if self._identity is None or self._identity.visible_size != self._visible_size:
            self._identity = RemapWarp(np.eye(3), self._visible_size, self._visible_size, whole_view=True)
        return self._identity

    def _built(self, build: WarpBuilder, infrared: Size, visible: Size) -> Placed:
        """The warp to the smallest of the halved visible sizes that loses nearly no infrared detail (MAX_SHRINK)."""
        most = self._max_levels
        while most and any(side % (1 << most) for side in visible):
            most -= 1
        if not most:
            return build(infrared, visible), 0
        # a warp for a large picture takes hundreds of MB: the scale is read from one for a smaller size
        tried = min(most, TRIED_LEVELS)
        small = build(infrared, _halved(visible, tried))
        scale = (1.0 if small is None else small.scale) * (1 << tried)
        levels = min(most, int(math.log2(max(scale * MAX_SHRINK, 1.0))))
        return (small if levels == tried else build(infrared, _halved(visible, levels))), levels

    def _warp(self, infrared: Size, visible: Size) -> Placed:
        build, warps = self._made
        key = (infrared, visible)
        if key in warps:
            warps.move_to_end(key)
        else:
            warps[key] = self._built(build, infrared, visible)
            if len(warps) > MAX_WARPS:
                warps.popitem(last=False)
        return warps[key]


def _halved(size: Size, times: int) -> Size:
    return size[0] >> times, size[1] >> times
