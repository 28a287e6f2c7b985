"""The slots of the sizes in use, by lane, and the scratch memory that the slots of a lane share.

A lane executes one request at a time, of any size, so one allocation, as large as the largest of its sizes needs,
serves all. There are as many lanes as requests in flight.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack

from fusepipe.engines.backends.cuda.api import Cuda, OutOfGpuMemoryError
from fusepipe.engines.backends.tensorrt.plan import Plan
from fusepipe.engines.backends.tensorrt.slots import Slot, SlotSize

_LOG = logging.getLogger(__name__)
CACHED_SIZES = 8
"""Number of sizes, batch included, whose buffers are kept; the least recently used is freed first."""


class Lanes:
    """The slots of a plan; used and closed by the thread that owns the CUDA context."""

    def __init__(self, cuda: Cuda, plan: Plan, count: int) -> None:
        self._cuda, self._plan = cuda, plan
        self._sizes: OrderedDict[SlotSize, dict[int, Slot]] = OrderedDict()  # least recently used first
        self._scratch = [(0, 0)] * count  # (address, bytes) of each lane

    def __len__(self) -> int:
        return len(self._scratch)

    def slot(self, size: SlotSize, lane: int, *, eager: bool, busy: Mapping[int, SlotSize]) -> Slot:
        """The slot of a size in a lane that is not busy, ready to start.

        ``busy`` has the size that executes in each busy lane. ``eager``: see :class:`Plan`. Without enough memory, the
        least recently used sizes are freed; raises :class:`OutOfGpuMemoryError` if that does not suffice.
        """
        keep = {size, *busy.values()}
        while True:
            try:
                return self._slot(size, lane, keep, eager=eager)
            except OutOfGpuMemoryError as error:
                if not self._drop_oldest(keep):
                    count, height, width = size.padded
                    raise OutOfGpuMemoryError(f"{error}; for {width}x{height} in batches of {count}") from error
                for idle in set(range(len(self))) - set(busy):
                    self._trim(idle)

    def _slot(self, size: SlotSize, lane: int, keep: set[SlotSize], *, eager: bool) -> Slot:
        if size not in self._sizes:
            while len(self._sizes) >= CACHED_SIZES and self._drop_oldest(keep):
                pass
        by_lane = self._sizes.get(size, {})
        if lane not in by_lane:
            by_lane[lane] = Slot(self._cuda, self._plan, size, eager=eager)
        self._sizes[size] = by_lane
        self._sizes.move_to_end(size)
        slot = by_lane[lane]
        slot.use_scratch(*self._scratch_of(lane, slot.scratch_bytes))
        return slot

    def _scratch_of(self, lane: int, size_bytes: int) -> tuple[int, int]:
        """The lane's scratch memory, allocated again if it is too small."""
        if self._scratch[lane][1] < size_bytes:
            self._free_scratch(lane)  # first, so that both need not fit
            self._scratch[lane] = (self._cuda.allocate(size_bytes), size_bytes)
        return self._scratch[lane]

    def _free_scratch(self, lane: int) -> None:
        address, _ = self._scratch[lane]
        self._scratch[lane] = (0, 0)
        if address:
            self._cuda.free(address)

    def _trim(self, lane: int) -> None:
        """Frees the scratch memory of an idle lane if none of its sizes needs that much."""
        needed = max((slots[lane].scratch_bytes for slots in self._sizes.values() if lane in slots), default=0)
        if self._scratch[lane][1] > needed:
            self._free_scratch(lane)

    def _drop_oldest(self, keep: set[SlotSize]) -> bool:
        """Frees the least recently used size that is not in ``keep``; false if there is none."""
        size = next((size for size in self._sizes if size not in keep), None)
        if size is None:
            return False
        _LOG.debug("freeing the buffers of %s", size)
        with ExitStack() as stack:
            for slot in self._sizes.pop(size).values():
                stack.callback(slot.close)
        return True

    def close(self) -> None:
        """Frees everything; no lane may be busy. A failure does not stop the rest from being freed."""
        with ExitStack() as last_first:
            for lane in range(len(self)):
                last_first.callback(self._free_scratch, lane)
            for slots in self._sizes.values():
                for slot in slots.values():
                    last_first.callback(slot.close)
            self._sizes = OrderedDict()
