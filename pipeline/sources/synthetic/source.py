"""The ``synthetic://`` source: a rendered camera of a street with known ground truth.

``pace=fast`` is a recording on its own media clock; ``pace=real`` is a live camera on the host clock. Live cameras
expose on a common grid of the host clock, so cameras of equal frame rate are in phase unless ``phase`` is set.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from fusepipe.core.errors import SourceError
from fusepipe.core.frames import VIDEO_TIME_BASE, Band, Frame, Plane
from fusepipe.core.radiometry import Radiometry
from fusepipe.pipeline.sources.base import ClockKind, Overflow, SourceInfo
from fusepipe.pipeline.sources.synthetic.backdrop import thermal_gain
from fusepipe.pipeline.sources.synthetic.options import SyntheticOptions, parse_options
from fusepipe.pipeline.sources.synthetic.render import Renderer
from fusepipe.pipeline.sources.synthetic.street_objects import Scene, make_scene
from fusepipe.pipeline.sources.synthetic.timeline import Moment, Timeline

_MAX_WAIT_S = 0.1
_MAX_TRUTHS = 10_000


@dataclass(frozen=True, slots=True)
class Truth:
    """The ground truth of a delivered frame.

    ``true_ns`` is its exposure time and ``image_ns`` that of the image it shows, both on the timeline of
    ``capture_ns`` but without clock errors.
    """

    index: int
    true_ns: int
    image_ns: int
    capture_ns: int
    repeated: bool
    frozen: bool


class SyntheticSource:
    """A synthetic camera; see :class:`fusepipe.pipeline.sources.base.Source` for the contract.

    Raises :class:`fusepipe.core.errors.UsageError` for an invalid URL.
    """

    def __init__(
        self, url: str, band: Band, camera: str = "", stream_id: str = "", radiometry: Radiometry | None = None
    ) -> None:
        self.options: SyntheticOptions = parse_options(url, band)
        if radiometry is None and self.options.depth == 16:
            per_kelvin, at_0c = thermal_gain(16)
            radiometry = Radiometry("celsius", 1 / per_kelvin, -at_0c / per_kelvin)
        self._radiometry = radiometry
        self.scene: Scene = make_scene(self.options.scene, self.options.light, self.options.parallax)
        self._url, self._camera, self._stream_id = url, camera, stream_id
        self._timeline = Timeline(self.options)
        self._renderer: Renderer | None = None
        self._start_ns = 0
        self._live: deque[Truth] = deque(maxlen=_MAX_TRUTHS)

    @property
    def band(self) -> Band:
        return self.options.band

    @property
    def clock(self) -> ClockKind:
        return "wall" if self.options.pace == "real" else "media"

    @property
    def overflow(self) -> Overflow:
        return Overflow.DROP_OLDEST if self.options.pace == "real" else Overflow.BLOCK

    @property
    def label(self) -> str:
        return self._url

    def open(self) -> SourceInfo:
        """Renders the background."""
        options = self.options
        self._renderer = Renderer(options, self.scene)
        if options.pace == "real":
            self._renderer.prepare()
        width, height = options.size
        return SourceInfo(
            width=width,
            height=height,
            fps=float(options.fps),
            frames=None if options.drop or options.pace == "real" else options.ticks,
            grey=options.band is Band.INFRARED,
            bit_depth=options.depth,
            codec="synthetic",
            colour="grey" if options.band is Band.INFRARED else "natural",
            radiometry=self._radiometry,
        )

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """The frames; a live camera that is late skips the frames it missed."""
        if self._renderer is None:
            raise SourceError(f"{self._url!r}: frames() before open()")
        live = self.options.pace == "real"
        if live:
            self._start_ns = self._next_tick_ns()
        shown: tuple[int, tuple[Plane, ...]] = (-1, ())
        index = 0
        for moment in self._timeline.moments():
            if stop.is_set():
                return
            if live:
                true_ns = self._start_ns + moment.true_ns
                if time.monotonic_ns() - true_ns > 2 * self.options.interval_ns:
                    continue
                if not _wait_until(true_ns, stop):
                    return
            if moment.image_tick != shown[0]:
                pixels = self._renderer.render(self._start_ns + moment.image_ns, moment.image_tick)
                shown = (moment.image_tick, tuple(Plane(p, self.options.depth) for p in pixels))
            if live:
                self._live.append(self._truth(index, moment))
            yield self._frame(index, moment, shown[1])
            index += 1

    def close(self) -> None:
        """Releases the renderer."""
        self._renderer = None

    def truth(self, index: int) -> Truth:
        """The ground truth of frame ``index``.

        Available for all frames of a recording and the last 10,000 of a live camera; raises :class:`IndexError` for
        others.
        """
        if self.options.pace == "fast":
            return self._truth(index, self._timeline.moment(index))
        first = self._live[0].index if self._live else 0
        if not first <= index < first + len(self._live):
            raise IndexError(f"available: frames {first} to {first + len(self._live) - 1}; got {index = }")
        return self._live[index - first]

    def _truth(self, index: int, moment: Moment) -> Truth:
        start = self._start_ns
        return Truth(
            index=index,
            true_ns=start + moment.true_ns,
            image_ns=start + moment.image_ns,
            capture_ns=start + moment.reading_ns,
            repeated=moment.repeated,
            frozen=moment.frozen,
        )

    def _frame(self, index: int, moment: Moment, planes: tuple[Plane, ...]) -> Frame:
        return Frame(
            band=self.options.band,
            planes=planes,
            index=index,
            capture_ns=self._start_ns + moment.reading_ns,
            pts=round(moment.reading_ns * VIDEO_TIME_BASE.denominator / 1_000_000_000),
            time_base=VIDEO_TIME_BASE,
            camera=self._camera,
            stream_id=self._stream_id,
            arrival_ns=time.monotonic_ns(),
            radiometry=self._radiometry,
        )

    def _next_tick_ns(self) -> int:
        """The next multiple of the frame interval on the host's clock."""
        interval = 1_000_000_000 / self.options.fps
        return round((time.monotonic_ns() // interval + 1) * interval)


def _wait_until(when_ns: int, stop: threading.Event) -> bool:
    """Waits until a monotonic time; ``False`` if ``stop`` is set before."""
    while (left_s := (when_ns - time.monotonic_ns()) * 1e-9) > 0:
        if stop.wait(min(left_s, _MAX_WAIT_S)):
            return False
    return not stop.is_set()
