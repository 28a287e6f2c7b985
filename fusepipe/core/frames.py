"""The data types of the pipeline: planes, frames, frame pairs and fused frames.

All times are integers in nanoseconds (``*_ns``). ``capture_ns`` is when the camera exposed the
frame, on the timeline of its source: media time for files, the host's monotonic clock for live
cameras. ``arrival_ns`` is when this process received it (``time.monotonic_ns``), for latency only.

All of them are immutable; stages make changed copies with :func:`dataclasses.replace`, so that
several stages and sinks can hold the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fusepipe.core.camera_telemetry import CameraTelemetry
from fusepipe.core.planes import Luma8 as Luma8
from fusepipe.core.planes import Matrix as Matrix
from fusepipe.core.planes import Pixels as Pixels
from fusepipe.core.planes import Plane as Plane
from fusepipe.core.planes import Size as Size
from fusepipe.core.planes import ValueRange as ValueRange
from fusepipe.core.radiometry import Radiometry

VIDEO_CLOCK_HZ = 90_000  # of RTP and MPEG-TS; fine enough for any camera
VIDEO_TIME_BASE = Fraction(1, VIDEO_CLOCK_HZ)


class Band(StrEnum):
    """Which of the two cameras a frame comes from."""

    INFRARED = "infrared"
    VISIBLE = "visible"

    @property
    def other(self) -> Band:
        return Band.VISIBLE if self is Band.INFRARED else Band.INFRARED


class PairState(StrEnum):
    """Which frames a pair consists of; printed, counted and written to the sidecar file.

    ``FUSED``: both frames were captured within the tolerance. ``HELD``: one of them is an earlier
    frame, because its stream had none within the tolerance or repeats an image (a thermal camera during flat-field
    correction). ``INTERPOLATED``: the infrared image is computed from those before and after. ``SINGLE``: one frame
    only. ``NO_SIGNAL``: live only, the no-signal slate while no camera delivers.
    """

    FUSED = "fused"
    INTERPOLATED = "interpolated"
    HELD = "held"
    SINGLE = "single"
    NO_SIGNAL = "no signal"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The timestamps of a live frame besides ``capture_ns``, from which pairing estimates its capture time.

    ``kind`` is the clock of ``capture_ns``: ``media`` (the camera's own time), ``kernel`` (the driver's monotonic
    time) or ``arrival`` (when the image began to arrive, where that is known, or was complete). ``sender_ns`` is the
    camera's wall-clock time of capture, converted to the host's monotonic timeline as if both wall clocks agreed;
    ``epoch`` is the number of the connection. ``key_frame``: the image was encoded without reference to earlier ones.
    """

    kind: Literal["media", "kernel", "arrival"] = "media"
    epoch: int = 0
    sender_ns: int | None = None
    key_frame: bool = True


@dataclass(frozen=True, slots=True)
class Original:
    """The frame whose image a frozen camera repeats: its ``index`` and ``capture_ns``."""

    index: int
    capture_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One captured image: ``planes`` is (Y,) for grey or (Y, Cb, Cr) for colour.

    Chroma planes may be subsampled (4:2:0, 4:2:2: size rounded up) or full size (4:4:4); ``matrix`` says
    how Cb and Cr relate to RGB, ``pixel_aspect`` is a pixel's width over its height. ``pts * time_base`` is
    the presentation time in seconds as the container gave it; ``capture_ns`` is what pairing uses. ``index``
    counts frames of this source from 0; ``name`` is the stem of an image file or ``""``. A live source gives
    ``capture_ns`` on the camera's clock, with a ``stamp``; pairing maps it to the host's clock. ``original`` is the
    frame whose image this one repeats, if the camera is frozen. ``radiometry`` is what the counts of an infrared luma
    measure, where that is known, ``telemetry`` what the camera says about itself in rows of its image.
    """

    band: Band
    planes: tuple[Plane, ...]
    index: int
    capture_ns: int
    pts: int
    time_base: Fraction
    camera: str = ""
    stream_id: str = ""
    name: str = ""
    arrival_ns: int = 0
    matrix: Matrix = "bt601"
    pixel_aspect: Fraction = Fraction(1)
    stamp: Stamp | None = None
    original: Original | None = None
    radiometry: Radiometry | None = None
    telemetry: CameraTelemetry | None = None

    def __post_init__(self) -> None:
        if len(self.planes) not in (1, 3):
            raise ValueError(f"a frame has 1 plane (grey) or 3 (Y, Cb, Cr); got {len(self.planes) = }")

    @property
    def exposed(self) -> Original:
        """The frame that the camera truly captured: this one, unless its image repeats an earlier one's."""
        return self.original or Original(self.index, self.capture_ns)

    @property
    def luma(self) -> Plane:
        return self.planes[0]

    @property
    def chroma(self) -> tuple[Plane, ...]:
        return self.planes[1:]

    @property
    def height(self) -> int:
        return self.planes[0].height

    @property
    def width(self) -> int:
        return self.planes[0].width


@dataclass(frozen=True, slots=True)
class UnreadableFrame:
    """A frame that its source could not decode; it takes the frame's place and is counted.

    ``capture_ns`` is the best estimate of its capture time (``None``: unknown).
    """

    band: Band
    index: int
    reason: str
    capture_ns: int | None = None
    name: str = ""
    arrival_ns: int = 0


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A live camera is not connected, until its next frame; ``arrival_ns`` is when that was noticed."""

    band: Band
    reason: str
    arrival_ns: int


class Warp(Protocol):
    """A precomputed map from the infrared image to the visible one; see ``fusepipe.calibration.warp``.

    ``version`` changes whenever the map does; ``valid`` is HxW uint8 at the visible size, 255 where
    the infrared camera sees and 0 elsewhere, or ``None`` where it sees everything.
    """

    @property
    def version(self) -> str: ...
    @property
    def valid(self) -> Luma8 | None: ...
    @property
    def scale(self) -> float:
        """How many visible pixels one infrared pixel covers along a side, at the centre of the infrared image."""

    @property
    def sampling_grid(self) -> NDArray[np.float32]:
        """HxWx2 float32 at the visible size: (x, y) of each pixel in the image from :meth:`prefilter`, in pixels."""

    def prefilter(self, pixels: Pixels) -> Pixels:
        """Infrared HxW pixels to sample at :attr:`sampling_grid`: box-averaged where the warp shrinks the image."""

    def apply(self, pixels: Pixels) -> Pixels:
        """Infrared HxW pixels to the visible camera's geometry, same dtype."""

    def __hash__(self) -> int: ...


def enlarged(pixels: Pixels, times: int, *, smooth: bool) -> Pixels:
    """HxW pixels doubled ``times`` times along each side, interpolated bilinearly if ``smooth``, else repeated."""
    if not times:
        return pixels
    import cv2

    height, width = pixels.shape
    size = (width << times, height << times)
    larger: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST)
    return larger


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """The time of a pair lies at ``share``, 0..1, of the way from its infrared frame to the ``following`` one."""

    following: Frame
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class FramePair:
    """A visible and an infrared frame that belong together, from pairing to fusion.

    ``skew_ns`` is infrared capture time minus visible capture time, of the frames that were truly captured, after the
    configured offset (``None`` when one frame is missing or the pair was made by name). ``registered`` is the infrared
    plane in the visible geometry, raw counts; ``luma`` is the same as 8-bit full range. With ``engine_warps`` both
    are still in the infrared camera's geometry. With ``visible_levels`` both are smaller: the visible size halved this
    many times, and ``warp`` leads there. :meth:`registered_luma` and :meth:`seen` are always at the visible size.
    ``moved_locally``: parts of ``registered`` are not where ``warp`` leads.
    ``between``: the infrared image is still to be computed, from this frame and the one after it.
    """

    index: int
    state: PairState
    reference: Band
    infrared: Frame | None
    visible: Frame | None
    skew_ns: int | None = None
    name: str = ""
    warp: Warp | None = None
    registered: Plane | None = None
    luma: Plane | None = None
    engine_warps: bool = False
    visible_levels: int = 0
    moved_locally: bool = False
    between: Between | None = None

    def __post_init__(self) -> None:
        if self.infrared is None and self.visible is None:
            raise ValueError("a pair has at least one frame")

    @property
    def lead(self) -> Frame:
        """The frame that gives the pair its time: that of the reference band, else the only one."""
        first = self.visible if self.reference is Band.VISIBLE else self.infrared
        frame = first or self.visible or self.infrared
        assert frame is not None
        return frame

    def registered_luma(self) -> Plane | None:
        """``luma`` in the visible geometry and size; computed here where the engine warps or takes a smaller image."""
        if self.luma is None:
            return None
        if self.engine_warps and self.warp is not None:
            return replace(self.luma, pixels=self.warp.apply(self.luma.pixels))
        return replace(self.luma, pixels=enlarged(self.luma.pixels, self.visible_levels, smooth=True))

    def seen(self) -> Luma8 | None:
        """The warp's mask at the visible size, 255 where the infrared camera sees; ``None``: it sees everything."""
        if self.warp is None or self.warp.valid is None:
            return None
        return np.asarray(enlarged(self.warp.valid, self.visible_levels, smooth=False), np.uint8)

    @property
    def arrival_ns(self) -> int:
        """Arrival of the later frame that is new in this pair."""
        frames = [self.lead] if self.state is not PairState.FUSED else [self.infrared, self.visible]
        return max(f.arrival_ns for f in frames if f is not None)


@dataclass(frozen=True, slots=True)
class FusedBy:
    """The model, backend and precision that fused a frame."""

    model: str
    backend: str
    precision: str


@dataclass(frozen=True, slots=True, eq=False)
class FusedFrame:
    """A frame of the output: fused luma with the visible camera's own chroma planes, or with weighted ones.

    ``planes[0]`` has the value range of the visible luma; ``planes[1:]`` *are* the visible planes, unless
    weighted. ``substitute``: what fused it in place of the rig's own fuser, on a machine that is too slow for that one.
    """

    pair: FramePair
    planes: tuple[Plane, ...]
    state: PairState
    index: int
    capture_ns: int
    pts: int
    time_base: Fraction
    matrix: Matrix = "bt601"
    pixel_aspect: Fraction = Fraction(1)
    name: str = ""
    substitute: FusedBy | None = None

    @property
    def bgr(self) -> Luma8:
        """HxWx3 uint8 (B, G, R), full range, as OpenCV takes it; each use converts. Grey: three equal channels."""
        import cv2

        from fusepipe.core.colour import planes_to_bgr

        pixels = planes_to_bgr(self.planes, self.matrix)
        return np.asarray(pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)

    @property
    def height(self) -> int:
        return self.planes[0].height

    @property
    def width(self) -> int:
        return self.planes[0].width
