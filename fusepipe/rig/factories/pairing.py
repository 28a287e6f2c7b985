"""Makes the pairer of a rig, and checks before the run that its two sources can be paired."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusepipe.config.schema import Rig
from fusepipe.core.errors import ConfigError, SourceError
from fusepipe.core.frames import Band
from fusepipe.pipeline.pairing.auto_sync import AutoSync
from fusepipe.pipeline.pairing.capture_clock import CaptureClock
from fusepipe.pipeline.pairing.live_pairer import FreezeChange, LivePairer
from fusepipe.pipeline.pairing.name_pairer import NamePairer
from fusepipe.pipeline.pairing.pairer import Pairer
from fusepipe.pipeline.pairing.stem_matching import match_stems
from fusepipe.pipeline.pairing.time_pairer import MAX_WAIT_NS, TOLERANCE_NS, PairingRules, TimePairer
from fusepipe.pipeline.sources.base import HasImageTimes, Source, SourceInfo
from fusepipe.pipeline.sources.files.image_folder import ImageFolderSource
from fusepipe.rig.from_options import setting_name

log = logging.getLogger(__name__)


def pairs_by_name(rig: Rig) -> bool:
    """Whether frames are paired by file stem: what ``pair_by: auto`` means for two folders.

    Raises :class:`ConfigError` where ``pair_by: name`` is set for anything else.
    """
    urls = (rig.infrared, rig.visible)
    folders = all(c.kind == "path" and Path(c.url).is_dir() for c in urls)
    if rig.sync.pair_by in ("name", "order") and not folders:
        key = setting_name(rig, f"sync.pair_by: {rig.sync.pair_by}")
        raise ConfigError(f"{rig.name}: {key} needs two folders of images; use time for videos")
    return rig.sync.pair_by in ("auto", "name") and folders


def make_pairer(rig: Rig, *, by_name: bool, measured: bool) -> NamePairer | TimePairer:
    """The pairer of recordings and, within a :class:`LivePairer`, of live cameras.

    ``measured``: both sources have capture times.
    """
    if by_name:
        return NamePairer(rig.sync.reference)
    pairer = TimePairer(rig.sync.reference, measured=measured)
    pairer.rules = pairing_rules(rig)
    return pairer


@dataclass(frozen=True, slots=True)
class ImageTimes:
    """The capture times of an opened image folder's images, and where they are from, such as file names."""

    source: HasImageTimes
    times_ns: Sequence[int]
    origin: str


def image_times(sources: Sequence[Source]) -> list[ImageTimes] | None:
    """The capture times of two opened image folders; ``None`` unless both have them."""
    found = []
    for source in sources:
        if isinstance(source, HasImageTimes) and (times := source.capture_times()) is not None:
            found.append(ImageTimes(source, *times))
    return found if len(found) == len(sources) else None


def pairing_description(*, by_name: bool, measured: bool) -> str:
    """How frames are paired, for reports."""
    return "name" if by_name else "capture time" if measured else "index, for lack of capture times"


def pairing_rules(rig: Rig) -> PairingRules:
    """The keys of ``sync`` that may change while the rig runs."""
    sync = rig.sync
    tolerance_ns, max_wait_ns = sync.tolerance_ns, sync.max_wait_ns
    return PairingRules(
        TOLERANCE_NS if tolerance_ns is None else tolerance_ns,
        sync.offset_ns,
        sync.on_missing,
        sync.max_hold_ns,
        MAX_WAIT_NS if max_wait_ns is None else max_wait_ns,
        frozenset(name for name, set_ns in (("tolerance", tolerance_ns), ("max_wait", max_wait_ns)) if set_ns is None),
    )


def make_live_pairer(
    rig: Rig,
    pairer: Pairer,
    size: tuple[int, int],
    *,
    rates: Mapping[Band, float | None],
    warn: Callable[[str], None],
) -> LivePairer:
    """``pairer`` with the cameras' clocks and the degradation states; ``size`` (width, height) is the output's.

    ``rates`` are the frame rates that the cameras state; ``warn`` gets advice about settings.
    """
    if not isinstance(pairer, TimePairer):
        raise ConfigError(f"{rig.name}: sync.pair_by: live cameras are paired by time")
    clocks = {Band.INFRARED: CaptureClock(rig.infrared.latency_ns), Band.VISIBLE: CaptureClock(rig.visible.latency_ns)}
    return LivePairer(
        pairer,
        clocks,
        reference=rig.sync.reference,
        size=size,
        start_ns=time.monotonic_ns(),
        sync=AutoSync(rig.sync.reference, pairer.rules, rates),
        detect_freezes=[
            band
            for band, source in ((Band.INFRARED, rig.infrared), (Band.VISIBLE, rig.visible))
            if source.detects_freezes
        ],
        changed=lambda change: log.info("%s: %s", rig.name, change),
        froze=_freeze_logger(rig.name),
        tuned=lambda text: log.info("%s: sync: %s", rig.name, text),
        advise=warn,
    )


def _freeze_logger(rig_name: str) -> Callable[[FreezeChange], None]:
    def froze(change: FreezeChange) -> None:
        seconds = change.lasted_ns / 1e9
        if change.frozen:
            log.warning(
                "%s: %s: frozen: every frame of the last %.1f s shows the same image; the camera counts as not "
                "connected until its image changes (for a test image set freeze_detection: off)",
                rig_name,
                change.band,
                seconds,
            )
        else:
            log.info("%s: %s: the image changes again after %.1f s", rig_name, change.band, seconds)

    return froze


def check_clocks(rig: Rig, sources: Sequence[Source]) -> None:
    """Raises :class:`ConfigError` for a live and a recorded source together."""
    if len({source.clock for source in sources}) > 1:
        kinds = ", ".join(f"{s.band} is {'live' if s.clock == 'wall' else 'recorded'}" for s in sources)
        raise ConfigError(f"{rig.name}: a live and a recorded source have no common clock to pair by ({kinds})")


def match_names(rig: Rig, sources: Sequence[Source], warn: Callable[[str], None]) -> bool:
    """Whether two opened image folders are paired by name; renames infrared frames to their partners' stems if needed.

    Stems that differ by the words for the camera go before capture times; those that differ otherwise only count where
    ``pair_by: name`` is set or the images have no capture times. Raises :class:`SourceError` where ``pair_by: name`` is
    set and no stem has a partner, or nothing else is left.
    """
    infrared, visible = (source if isinstance(source, ImageFolderSource) else None for source in sources)
    if infrared is None or visible is None or rig.sync.pair_by == "order":
        return False
    if set(infrared.names) & set(visible.names):
        return True
    timed = rig.sync.pair_by == "auto" and image_times(sources) is not None
    found = match_stems(infrared.names, visible.names, words_only=timed)
    if found is not None:
        infrared.use_names(found.partners)
        warn(str(found))
        return True
    if timed:
        return False
    raise SourceError(
        f"{rig.name}: the two folders have no file stem in common (they have {min(infrared.names)!r} and "
        f"{min(visible.names)!r}, for example); rename the images, or pair them in order with "
        f"{setting_name(rig, 'sync.pair_by: order')}"
    )


def start_times_warning(rig: Rig, infrared: SourceInfo, visible: SourceInfo) -> str:
    """A warning where two recordings start further apart than the tolerance, else an empty text.

    Containers start at arbitrary times, so streams that seem paired may be a constant time apart.
    """
    if abs(infrared.start_ns + rig.sync.offset_ns - visible.start_ns) <= pairing_rules(rig).tolerance_ns:
        return ""
    return (
        f"infrared starts at {infrared.start_ns / 1e9:.3f} s and visible at {visible.start_ns / 1e9:.3f} s of their "
        f"own times; if the cameras started together, set {setting_name(rig, 'sync.offset')} to the difference"
    )
