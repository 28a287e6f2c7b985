"""Watches the load of a running live rig: logs when it is too slow, advises, and steps to a lighter model if allowed.

Runs in a thread of its own, so that opening and timing other models never delays a frame for longer than their use of
the CPU does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from fusepipe.core.errors import FusepipeError
from fusepipe.core.fuser import Fuser
from fusepipe.core.machine import usable_cores
from fusepipe.core.units import S
from fusepipe.pipeline.graph import Graph
from fusepipe.pipeline.measures.run_statistics import RunStatistics
from fusepipe.pipeline.measures.thread_cpu import FUSION_STAGE
from fusepipe.pipeline.stages.fusion import FusionStep
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.rig.overload.advice import STAGE_OF, Sharing, SlowStage, advice
from fusepipe.rig.overload.detector import LoadSample, Overload, OverloadDetector
from fusepipe.rig.overload.ladder import Ladder
from fusepipe.rig.overload.trial import Option, candidates, lighter_models, time_fuser, time_options

log = logging.getLogger(__name__)

PERIOD_S = 1.0

_running: set[OverloadWatch] = set()


def live_rigs() -> int:
    """The live rigs that run in this process."""
    return len(_running)


class OverloadWatch:
    """``fuser`` is the rig's own. :meth:`record` may be called by any thread."""

    def __init__(
        self,
        name: str,
        fuser: Fuser,
        fusion: FusionStep,
        statistics: RunStatistics,
        on_overload: Literal["skip", "lighter"],
        *,
        load: Callable[[str], Fuser] = load_fuser,
    ) -> None:
        self.message = ""  # while it is overloaded
        self.model: str | None = None  # the lighter model in use, if any
        self._last_message: str | None = None  # of the last overload
        self._name, self._fusion, self._statistics, self._load = name, fusion, statistics, load
        self._graph: Graph | None = None
        self._detector = OverloadDetector()
        on_cpu = fuser.info.device.startswith("cpu")
        self._models = lighter_models(fuser.info.model) if on_overload == "lighter" and on_cpu else []
        self._fusers: list[Fuser | None] = [fuser, *([None] * len(self._models))]
        self._ladder = Ladder(len(self._models))
        self._options: list[Option] | None = None  # once measured
        self._since_ns: int | None = None
        self._seconds = 0.0
        self._times = 0
        self._lighter_s: dict[str, float] = {}

    def watches(self, graph: Graph) -> None:
        """Sets what is watched; called before it runs."""
        self._graph = graph

    def run(self, stop: threading.Event) -> None:
        """Checks once a second until ``stop``."""
        _running.add(self)
        try:
            self._run(stop)
        finally:
            _running.discard(self)

    def _run(self, stop: threading.Event) -> None:
        last_ns = time.monotonic_ns()
        while not stop.wait(PERIOD_S):
            now_ns = time.monotonic_ns()
            if self.model is not None:
                self._lighter_s[self.model] = self._lighter_s.get(self.model, 0.0) + (now_ns - last_ns) / S
            last_ns = now_ns
            self._check(now_ns, stop)
        self._count(time.monotonic_ns())

    def record(self) -> dict[str, Any]:
        """Plain values: ``message`` while it is overloaded, how often and how long it was, and the lighter model.

        ``last_message`` is the message of the last overload, also when it is over.
        """
        since_ns = self._since_ns
        seconds = self._seconds + (0 if since_ns is None else (time.monotonic_ns() - since_ns) / S)
        return {
            "message": self.message or None,
            "last_message": self._last_message,
            "times": self._times,
            "seconds": round(seconds, 1),
            "lighter_model": self.model,
            "lighter_s": {model: round(value, 1) for model, value in self._lighter_s.items()},
        }

    # -- once a second

    def _check(self, now_ns: int, stop: threading.Event) -> None:
        assert self._graph is not None
        seen = self._statistics
        self._detector.add(LoadSample(now_ns, seen.paired, seen.fused, self._graph.dropped()))
        overload = self._detector.overload
        if overload is None:
            if not self._detector.deciding:
                self._end(now_ns)
            if self._ladder.asks(now_ns):
                self._try_heavier(now_ns)
            return
        begins = self._since_ns is None
        if begins:
            self._since_ns, self._times = now_ns, self._times + 1
        by_fusion = overload.mailbox == "registered"
        self._advise(overload, now_ns)
        if begins and by_fusion and self._options is None and self._fusion.size is not None:
            own = self._fusers[0]
            assert own is not None
            self._options = time_options(candidates(own.info), self._fusion.size, stop)
            self._advise(overload, now_ns)
        if begins:
            log.warning("%s: %s", self._name, self.message)
        if by_fusion and self._ladder.overloaded(now_ns):
            self._step(f"the CPU is too slow for {self._model_at(self._ladder.level - 1)}")

    def _advise(self, overload: Overload, now_ns: int) -> None:
        sharing = Sharing(live_rigs(), usable_cores())
        self.message = advice(overload, self._cost(overload, now_ns), self._options or [], sharing)
        self._last_message = self.message

    def _end(self, now_ns: int) -> None:
        if (seconds := self._count(now_ns)) is not None:
            self.message = ""
            log.info("%s: keeps up again after %.0f s", self._name, seconds)

    def _count(self, now_ns: int) -> float | None:
        """The overload is over: its duration in seconds, if there was one."""
        if self._since_ns is None:
            return None
        seconds, self._since_ns = (now_ns - self._since_ns) / S, None
        self._seconds += seconds
        return seconds

    def _cost(self, overload: Overload, now_ns: int) -> SlowStage:
        """The stage behind the mailbox that drops."""
        assert self._graph is not None
        box, recent = overload.mailbox, self._statistics.recent(now_ns)
        if box.startswith("sink-"):
            runner = self._graph.runners[int(box.removeprefix("sink-")) - 1]
            return SlowStage(runner.label, runner.recent(now_ns)["frame_ms"])
        stage = {"registered": FUSION_STAGE, "paired": "register"}.get(box)
        if stage is None:
            return SlowStage(f"pairing ({box})", None)
        size = self._fusion.size
        fuser = self._fusers[self._ladder.level]
        name = STAGE_OF[box]
        if box == "registered" and fuser is not None:
            info = fuser.info
            name += f" ({info.model}, {info.backend} {info.precision}" + (f", {size[1]}x{size[0]})" if size else ")")
        return SlowStage(name, recent["stage_ms"].get(stage), size)

    # -- lighter models

    def _model_at(self, level: int) -> str:
        own = self._fusers[0]
        assert own is not None
        return self._models[level - 1] if level else own.info.model

    def _step(self, reason: str) -> None:
        """Uses the fuser of the ladder's level; opens it first, so that no frame waits for it.

        A model that cannot be opened is left out, so that the next lighter one is tried.
        """
        level = self._ladder.level
        if level and self._fusers[level] is None:
            try:
                self._fusers[level] = self._opened(self._models[level - 1])
            except FusepipeError as error:
                log.warning("%s: the lighter model %s cannot be used: %s", self._name, self._models[level - 1], error)
                self._ladder.leave_out()
                del self._models[level - 1], self._fusers[level]
                return
        self._fusion.substitute(self._fusers[level] if level else None)
        self.model = self._models[level - 1] if level else None
        self._detector.restart()
        log.warning("%s: %s; fusing with %s", self._name, reason, self._model_at(level))

    def _opened(self, model: str) -> Fuser:
        """A lighter model, ready for the size in use. Raises :class:`FusepipeError`."""
        fuser = self._load(model)
        try:
            if self._fusion.size is not None:
                fuser.prepare(*self._fusion.size)
        except FusepipeError:
            fuser.close()
            raise
        return fuser

    def _try_heavier(self, now_ns: int) -> None:
        """Times the next heavier model, and returns to it if the CPU is fast enough."""
        level, size = self._ladder.level - 1, self._fusion.size
        heavier, rate = self._fusers[level], self._statistics.recent(now_ns)["paired_per_s"]
        if heavier is None or size is None or not rate:
            return
        share = time_fuser(heavier, size) * rate / 1000
        if self._ladder.answer(time.monotonic_ns(), level, share):
            self._step("the CPU is fast enough again")
