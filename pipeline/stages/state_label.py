"""Burns the state of degraded frames into the image, for viewers of recordings and streams."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from fusepipe.core.frames import FusedFrame, PairState, Plane


class StateLabel:
    """Labels frames while ``on``; any thread may change it."""

    def __init__(self, *, on: bool) -> None:
        self.on = on

    def __call__(self, frame: FusedFrame) -> FusedFrame:
        return labelled(frame) if self.on else frame


def labelled(frame: FusedFrame) -> FusedFrame:
    """The frame with its state in the top left corner of the luma, and the model where it is not the rig's own.

    Frames that the rig's own model has fused are unchanged.
    """
    words = [] if frame.state is PairState.FUSED else [str(frame.state).upper()]
    words += [] if frame.substitute is None else [f"LIGHTER MODEL: {frame.substitute.model.upper()}"]
    if not words:
        return frame
    luma = frame.planes[0]
    low, high = (16, 235) if luma.value_range == "limited" else (0, 255)
    scale = max(0.4, frame.height / 480)
    thick = max(1, round(2 * scale))
    text = ", ".join(words)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    margin = round(8 * scale)
    pixels = np.array(luma.pixels, np.uint8)
    pixels[: height + below + 2 * margin, : width + 2 * margin] = low
    cv2.putText(pixels, text, (margin, margin + height), cv2.FONT_HERSHEY_SIMPLEX, scale, high, thick, cv2.LINE_AA)
    return replace(frame, planes=(Plane(pixels, luma.bit_depth, luma.value_range), *frame.planes[1:]))
