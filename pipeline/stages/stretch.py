"""Reports infrared images that are stretched because no calibration says how they fit.

Without a calibration both cameras are taken to have one field of view. Images of two shapes cannot: a camera that
connects after the start, or returns with other settings, would be stretched unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable

from fusepipe.core.frames import FramePair, Size

MAX_STRETCH = 0.02  # aspect ratios that differ by more are worth a warning
MAX_SEEN = 16  # combinations of sizes that are reported


class StretchWarning:
    """A transform of pairs that leaves them as they are, before any other changes their sizes.

    ``setting`` is the name of the key that mends it. ``warn`` is called once for each combination of sizes.
    """

    def __init__(self, setting: str, warn: Callable[[str], None]) -> None:
        self._setting, self._warn = setting, warn
        self._seen: set[tuple[Size, Size]] = set()

    def __call__(self, pair: FramePair) -> FramePair:
        if pair.infrared is not None and pair.visible is not None:
            self.look_at((pair.infrared.width, pair.infrared.height), (pair.visible.width, pair.visible.height))
        return pair

    def ignore(self, infrared: Size, visible: Size) -> None:
        """Images of these sizes have been reported."""
        self._seen.add((infrared, visible))

    def look_at(self, infrared: Size, visible: Size) -> None:
        """Warns if images of these sizes (width, height) differ in shape."""
        key = (infrared, visible)
        if key in self._seen or len(self._seen) >= MAX_SEEN:
            return
        self._seen.add(key)
        if abs(infrared[0] * visible[1] / (infrared[1] * visible[0]) - 1) > MAX_STRETCH:
            self._warn(
                f"infrared {_text(infrared)} and visible {_text(visible)} differ in shape and there is no calibration: "
                f"the infrared image is stretched; set {self._setting}"
            )


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
