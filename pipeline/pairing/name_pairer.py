"""Pairs frames by file name, for image folders. Pure."""

from __future__ import annotations

from fusepipe.core.frames import Band, Disconnected, FramePair, PairState, UnreadableFrame
from fusepipe.core.natural_order import natural_key
from fusepipe.pipeline.pairing.pairer import PairingLog
from fusepipe.pipeline.sources.base import CapturedItem, SourceItem


class NamePairer:
    """Pairs frames of equal ``name``; both streams have to be in the order of ``natural_key``.

    A merge of two sorted lists, which holds one frame of each stream. Frames without a partner are counted and named.
    """

    def __init__(self, reference: Band = Band.VISIBLE) -> None:
        self.log = PairingLog()
        self._reference = reference
        self._heads: dict[Band, CapturedItem | None] = {Band.INFRARED: None, Band.VISIBLE: None}
        self._ended: set[Band] = set()
        self._index = 0

    def wants(self) -> Band | None:
        for band in (self._reference, self._reference.other):
            if self._heads[band] is None and band not in self._ended:
                return band
        return None

    def push(self, item: SourceItem) -> list[FramePair]:
        if isinstance(item, Disconnected):
            return []  # of live cameras only
        self._heads[item.band] = item
        return self._merge()

    def end(self, band: Band) -> list[FramePair]:
        self._ended.add(band)
        return self._merge()

    def expire(self, now_ns: int) -> list[FramePair]:
        return []

    def deadline_ns(self) -> int | None:
        return None

    def _merge(self) -> list[FramePair]:
        pairs: list[FramePair] = []
        infrared, visible = self._heads[Band.INFRARED], self._heads[Band.VISIBLE]
        if infrared is not None and visible is not None:
            keys = natural_key(infrared.name), natural_key(visible.name)
            if keys[0] == keys[1]:
                pairs = self._match(infrared, visible)
                self._heads = {Band.INFRARED: None, Band.VISIBLE: None}
            else:
                self._discard(Band.INFRARED if keys[0] < keys[1] else Band.VISIBLE)
        for band in Band:
            if band.other in self._ended and self._heads[band] is not None and self._heads[band.other] is None:
                self._discard(band)
        return pairs

    def _match(self, infrared: CapturedItem, visible: CapturedItem) -> list[FramePair]:
        bad = [item for item in (infrared, visible) if isinstance(item, UnreadableFrame)]
        for item in bad:
            self.log.unreadable(item)
        if isinstance(infrared, UnreadableFrame) or isinstance(visible, UnreadableFrame):
            return []
        pair = FramePair(
            self._index, PairState.FUSED, self._reference, infrared, visible, skew_ns=None, name=visible.name
        )
        self._index += 1
        return [pair]

    def _discard(self, band: Band) -> None:
        item = self._heads[band]
        self._heads[band] = None
        if isinstance(item, UnreadableFrame):
            self.log.unreadable(item)
        elif item is not None:
            self.log.skip(f"no {band.other} partner", item.name)
