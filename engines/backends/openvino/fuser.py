"""Networks on CPUs through OpenVINO.

The graph's inputs and output are uint8 luma (see ``fusepipe.train.export``): images are copied into the request's
buffers, with edge pixels repeated up to the graph's multiple, and results are copied out (of a pyramid network that is
the coarsest level; the others are read from the images themselves). Two requests are in flight.

The first few sizes are compiled for exactly that size (0.2 s each, a third faster); all further sizes share a graph
with dynamic shapes, so that a folder of hundreds of sizes compiles a handful of times. In fp32 both compute the same
bytes, and a size keeps its graph.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from fusepipe.core.buffers import BufferPool
from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.fuser import FuserBase, FuserInfo, FusionBatch, Ticket
from fusepipe.core.machine import usable_cores
from fusepipe.engines.backends.openvino.library import openvino
from fusepipe.engines.backends.openvino.network import (
    PREPARED,
    coarse_part,
    last_line,
    layer_precisions,
    read_multiple,
    read_network,
    read_sharpness,
    shared_core,
)
from fusepipe.engines.backends.openvino.pyramid import coarse_shape
from fusepipe.engines.backends.openvino.slots import WAIT_S, ImageSlot, OpenVinoTicket, PyramidSlot, Slot
from fusepipe.engines.cache import CompileCache
from fusepipe.engines.sampling_grid import GridCache
from fusepipe.engines.tensor_names import SAMPLING_GRID

STATIC_SIZES = 4
"""Number of sizes with a statically shaped graph."""
MAX_IN_FLIGHT = 2
MAX_BATCH = 16
MAX_VISIBLE_LEVELS = 4
"""For pyramid networks: the most halvings of the visible size to the infrared size."""
SMALL_COARSE_PX = 1 << 14
"""Up to this size a pyramid network's coarse part runs on one thread a request: threads that share so little work wait
for each other more than they save."""
# int8 is in the graph (fusepipe.engines.builder.quantise); everything between its layers is fp32
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_ACHIEVED = {"float32": "fp32", "f32": "fp32", "bfloat16": "bf16", "bf16": "bf16"}

# (batch, height, width) of the padded input; None is the graph for any size
_Size = tuple[int, int, int] | None


def _shape(name: str, size: tuple[int, int, int], grids: GridCache | None) -> tuple[int, ...]:
    """An input's shape for (batch, height, width); raw infrared images keep a dynamic size, at little cost."""
    batch, height, width = size
    if name == SAMPLING_GRID:
        return batch, height, width, 2
    return (batch, 1, -1, -1) if grids is not None and name == "infrared" else (batch, 1, height, width)


class OpenVinoFuser(FuserBase):
    """A :class:`fusepipe.core.fuser.Fuser` of one ONNX network on the CPU.

    ``onnx`` is the exported graph, or the quantised one for ``int8``. ``precision`` is ``fp32``, ``bf16``, ``int8`` or
    ``auto`` (bf16 if the CPU supports it natively, else fp32). ``threads=0`` uses all physical cores.
    Raises :class:`EngineError` if the graph cannot be read or the CPU does not have the precision.
    """

    def __init__(
        self,
        model: str,
        onnx: bytes,
        precision: str = "auto",
        *,
        reason: str = "",
        threads: int = 0,
        cache: CompileCache | None = None,
    ) -> None:
        super().__init__()
        self._lock = threading.RLock()  # choosing a request and starting it; never needed to fetch a result
        self._core = shared_core()
        self._onnx, self._threads = onnx, threads
        self._cache = cache or CompileCache()
        try:
            self._graph = read_network(self._core, onnx)
            self._multiple = read_multiple(self._graph)
            self._grids = GridCache() if SAMPLING_GRID in {i.get_any_name() for i in self._graph.inputs} else None
            self._sharpness = () if self._grids is not None else read_sharpness(self._graph)
            if self._sharpness:
                self._graph = coarse_part(self._graph)
            capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            self._cpu = str(self._core.get_property("CPU", "FULL_DEVICE_NAME"))
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read the network {model!r}: {last_line(error)}") from error
        self._capabilities = sorted(str(name) for name in capabilities)
        achieved, why = self._choose(precision)
        self.info = FuserInfo(
            model=model,
            backend="openvino",
            precision=achieved,
            device=f"cpu ({self._cpu})",
            reason="; ".join(part for part in (reason, why) if part),
            accepts_warp=self._grids is not None,
            max_in_flight=MAX_IN_FLIGHT,
            max_batch=MAX_BATCH,
            max_visible_levels=MAX_VISIBLE_LEVELS if self._sharpness else 0,
        )
        self._slots: dict[_Size, list[Slot]] = {}
        self._scratch = BufferPool()
        self._in_flight: deque[OpenVinoTicket] = deque()

    def _choose(self, precision: str) -> tuple[str, str]:
        native = "BF16" in self._capabilities
        if precision == "auto":
            return ("bf16", "bf16: native on this CPU") if native else ("fp32", "fp32: this CPU has no bf16")
        if precision not in _HINTS:
            raise UsageError(f"OpenVINO has no {precision = } on CPUs; use auto, {', '.join(_HINTS)}")
        quantised = any(op.get_type_name() == "FakeQuantize" for op in self._graph.get_ops())
        if quantised != (precision == "int8"):
            kind = "int8" if quantised else "fp32"
            raise EngineError(f"asked for {precision}, but this network's graph is {kind}: build an engine for it")
        if precision == "bf16" and not native:
            raise EngineError(f"this CPU ({self._cpu}) does not compute in bf16: use --precision fp32 or auto")
        return precision, ""

    def prepare(self, height: int, width: int, batch: int = 1) -> None:
        """Compiles for this size unless compiled already; see the module's docstring."""
        if min(height, width, batch) < 1 or batch > MAX_BATCH:
            raise UsageError(f"cannot prepare {height = } {width = } {batch = }; a batch is 1 to {MAX_BATCH}")
        with self._lock:
            self._require_open()
            self._slots_for(self._padded(height, width, batch))

    def _slot(self, request: Any) -> Slot:
        if self._sharpness:
            return PyramidSlot(request, self._sharpness, self._scratch)
        return ImageSlot(request, self._grids)

    def submit(self, batch: FusionBatch) -> Ticket:
        """See :class:`fusepipe.core.fuser.Fuser`; the images are read until the result is there."""
        height, width = batch.shape
        if len(batch.visible) > MAX_BATCH:
            raise UsageError(f"{len(batch.visible)} pairs are more than this fuser's {MAX_BATCH = }")
        if self._grids is None and (
            any(warp is not None for warp in batch.warps)
            or (not self._sharpness and any(image.shape != (height, width) for image in batch.infrared))
        ):
            raise UsageError("this fuser takes registered infrared images: apply the warp first")
        if batch.visible_levels > self.info.max_visible_levels:
            raise UsageError(f"this fuser takes infrared images of the visible size: {batch.visible_levels = }")
        padded = self._padded(height, width, len(batch.visible), batch.visible_levels)
        with self._lock:
            self._require_open()
            slots = self._slots_for(padded)
            self._make_room()
            slot = next(s for s in slots if s.ticket is None or s.ticket.done)
            ticket = OpenVinoTicket(slot, (height, width))
            try:
                slot.start(batch, padded)
            except (RuntimeError, MemoryError) as error:
                raise EngineError(f"OpenVINO cannot run {padded = }: {last_line(error)}") from error
            slot.ticket = ticket
            self._in_flight.append(ticket)
        return ticket

    def close(self) -> None:
        """Waits for requests in flight (tickets keep their results) and frees everything."""
        with self._lock:
            super().close()
            while self._in_flight:
                self._settle(self._in_flight.popleft())
            self._slots.clear()

    def _padded(self, height: int, width: int, batch: int, visible_levels: int = 0) -> tuple[int, int, int]:
        """(batch, height, width) of what is compiled: the padded image, or the coarsest level of a pyramid network."""
        if self._sharpness:
            return batch, *coarse_shape((height, width), len(self._sharpness), visible_levels)
        m = self._multiple
        return batch, -(-height // m) * m, -(-width // m) * m

    def _make_room(self) -> None:
        """Waits until fewer than MAX_IN_FLIGHT requests are unfinished; called with the lock held."""
        waiting = [ticket for ticket in self._in_flight if not ticket.done]
        while len(waiting) >= MAX_IN_FLIGHT:
            self._settle(waiting.pop(0))
        self._in_flight = deque(waiting)

    @staticmethod
    def _settle(ticket: OpenVinoTicket) -> None:
        """Fetches a result, or the engine's error, into its ticket."""
        try:
            ticket.result(WAIT_S)
        except EngineError:
            if not ticket.done:  # timed out: the ticket does not hold the error
                raise

    def _slots_for(self, padded: tuple[int, int, int]) -> Sequence[Slot]:
        if padded in self._slots:
            return self._slots[padded]
        own = [size for size in self._slots if size is not None]
        size: _Size = padded
        if len(own) >= STATIC_SIZES:
            if self.info.precision == "bf16":
                # The dynamic graph rounds differently in bf16: a result would depend on the sizes before it.
                self._drop(own[0])
            else:
                size = None
        if size not in self._slots:
            compiled = self._compile(size)
            self._slots[size] = [self._slot(compiled.create_infer_request()) for _ in range(MAX_IN_FLIGHT)]
        return self._slots[size]

    def _drop(self, size: _Size) -> None:
        """Drops the graph of a size after its requests have completed."""
        for ticket in self._in_flight:
            self._settle(ticket)
        del self._slots[size]

    def _compile(self, size: _Size) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.info.precision],
            # One stream on all cores for the lowest latency; for large graphs throughput mode gains a few per cent.
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self._threads:
            options["INFERENCE_NUM_THREADS"] = str(self._threads)
        elif self._sharpness and size is not None and size[1] * size[2] <= SMALL_COARSE_PX:
            requests = str(min(MAX_IN_FLIGHT, max(1, int(usable_cores()))))
            options |= {"NUM_STREAMS": requests, "INFERENCE_NUM_THREADS": requests}
        key = "|".join(
            (
                f"{PREPARED} {hashlib.sha256(self._onnx).hexdigest()}",
                str(openvino.get_version()),
                self._cpu,
                *self._capabilities,
                str(size),
                "coarse" if self._sharpness else "whole",
                str(sorted(options.items())),
            )
        )
        try:
            compiled = self._from_cache(key, options)
            if compiled is None:
                graph = self._graph.clone()
                if size is not None:
                    graph.reshape({port: _shape(port.get_any_name(), size, self._grids) for port in graph.inputs})
                compiled = self._core.compile_model(graph, "CPU", options)
                exported = compiled.export_model()
                self._cache.store(key, exported if isinstance(exported, bytes) else exported.read())
            ran = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile for {size}: {last_line(error)}") from error
        between = {"int8": "fp32"}.get(self.info.precision, self.info.precision)
        if _ACHIEVED.get(ran, ran) != between:
            raise EngineError(f"asked for {self.info.precision}, but OpenVINO computes in {ran}: use fp32")
        return compiled

    def precisions(self, size: tuple[int, int, int], nodes: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
        """The precision in which each of these ONNX nodes runs, read back from the graph compiled for a size.

        ``size`` is (batch, height, width); see :func:`fusepipe.engines.backends.openvino.network.layer_precisions`.
        """
        return layer_precisions(self.compiled_model(size), nodes, known)

    def compiled_model(self, size: tuple[int, int, int]) -> Any:
        """OpenVINO's compiled model for a size (batch, height, width)."""
        batch, height, width = size
        with self._lock:
            self._require_open()
            return self._slots_for(self._padded(height, width, batch))[0].request.get_compiled_model()

    def _from_cache(self, key: str, options: dict[str, str]) -> Any:
        blob = self._cache.load(key)
        if blob is None:
            return None
        try:
            return self._core.import_model(io.BytesIO(blob), "CPU", options)
        except RuntimeError:
            return None  # of another build of OpenVINO: compile again, which replaces it
