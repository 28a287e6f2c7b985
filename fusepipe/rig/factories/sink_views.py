"""Makes the views of a rig's outputs, and changes them while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fusepipe.config.schema import FileSink, PreviewSink, Rig
from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.frames import FusedFrame
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.views.output_view import OutputView


def make_views(rig: Rig, label: Callable[[FusedFrame], FusedFrame], *, live: bool = False) -> list[OutputView | None]:
    """For each sink of a rig its view; ``None`` for a preview page, whose viewers choose.

    ``label`` is applied to frames of views that are not the fused frame itself, which has its label already.
    """
    return [
        None if isinstance(sink, PreviewSink) else OutputView(sink.view.settings(), label, live=live)
        for sink in rig.sinks
    ]


def check_temperatures(rig: Rig, radiometry: Radiometry | None) -> None:
    """Raises :class:`ConfigError` for a view of temperatures where the infrared counts have none."""
    if radiometry is not None and radiometry.thermal:
        return
    for index, sink in enumerate(rig.sinks):
        if sink.view.settings().needs_temperatures:
            raise ConfigError(
                f"{rig.name}: sinks[{index}].view marks temperatures, but those of the infrared camera are not known: "
                "give it a radiometry, such as {unit: kelvin, gain: 0.01}, or use hot: {percentile: 99}"
            )


def change_view(rig: Rig, index: int, views: Sequence[OutputView | None]) -> bool:
    """Gives the view of a sink its settings in ``rig``; returns whether the sink has to be restarted for them.

    Raises :class:`UsageError` where a video that is being written would change its frame size and has no other name.
    """
    config, view = rig.sinks[index], views[index]
    if view is None:  # a page is made with its first view
        return True
    settings = config.view.settings()
    wider = (settings.mode == "side-by-side") != (view.settings.mode == "side-by-side")
    if wider and isinstance(config, FileSink) and not config.named_by_time:
        raise UsageError("a video has one frame size; side-by-side has another")
    view.settings = settings
    return wider and isinstance(config, FileSink)
