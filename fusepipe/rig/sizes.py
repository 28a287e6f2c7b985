"""The frame size of a rig's output, and the size its engine is compiled for."""

from __future__ import annotations

from fusepipe.config.schema import Rig
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.stages.cropping import CommonViewCrop

Size = tuple[int, int]  # (width, height) in pixels

DEFAULT_SIZE: Size = (640, 480)  # of a live rig's output until a camera delivers, where output.size is not set


def configured_size(rig: Rig) -> Size | None:
    """``output.size``; ``None`` where it is not set."""
    if rig.output.size is None:
        return None
    width, _, height = rig.output.size.partition("x")
    return int(width), int(height)


def output_size(rig: Rig, infrared: SourceInfo, visible: SourceInfo, *, live: bool) -> Size:
    """``output.size`` of a live rig, else the visible camera's, else the infrared one's, else a default."""
    if live and (size := configured_size(rig)) is not None:
        return size
    known = visible if visible.known else infrared
    return (known.width, known.height) if known.known else DEFAULT_SIZE


def engine_size(rig: Rig, visible: SourceInfo, output: Size, common_view: CommonViewCrop | None) -> Size | None:
    """(height, width) to compile the engine for before the first pair; ``None`` where it is not known yet."""
    if not visible.known and rig.output.size is None:
        return None
    width, height = output if common_view is None else common_view.at(output).size
    return height, width
