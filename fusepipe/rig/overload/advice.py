"""The message of an overloaded rig: what is too slow, and what would be fast enough. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusepipe.rig.overload.detector import Overload
from fusepipe.rig.overload.trial import Option

SIZE_STEP_PX = 16
MARGIN = 0.9  # of the time between two frames that a stage may take
IDLE_SHARE = 0.5  # of that time: a stage that takes less is not what is too slow
STAGE_OF = {"registered": "fusion", "paired": "registration"}


@dataclass(frozen=True, slots=True)
class SlowStage:
    """The slow stage: its name for people, and its measured time per frame."""

    name: str
    frame_ms: float | None
    size: tuple[int, int] | None = None  # (height, width) of what it works on


@dataclass(frozen=True, slots=True)
class Sharing:
    """The live rigs of this process, and the cores that it may use."""

    rigs: int = 1
    cores: float = 1.0

    @property
    def text(self) -> str:
        """What several rigs share; empty for one."""
        return f"{self.rigs} rigs share {self.cores:g} cores" if self.rigs > 1 else ""


def advice(overload: Overload, cost: SlowStage, options: Sequence[Option], sharing: Sharing | None = None) -> str:
    """One line; ``options`` are measured costs of other settings for the fusion stage."""
    rate = f"too slow: {overload.out_per_s:.1f} of {overload.in_per_s:.1f} frames per second"
    budget_ms = 1000 / max(overload.in_per_s, 0.1)
    shared = "" if sharing is None else sharing.text
    fewer = [f"or cameras at {int(overload.out_per_s)} fps"] if 1 <= overload.out_per_s < overload.in_per_s - 1 else []
    fewer += ["or fewer rigs"] if shared else []
    others = "by this rig or by other programs" if not shared else f"{shared}, with other programs"
    if cost.frame_ms is None:
        return "; ".join([f"{rate}; {cost.name} is late: the CPU is fully used, {others}", *fewer])
    if cost.frame_ms < IDLE_SHARE * budget_ms:
        used = f"{rate}; {cost.name} takes only {_ms(cost.frame_ms)} of {_ms(budget_ms)} per frame: the CPU is used by "
        used += f"other programs or rigs ({shared})" if shared else "other programs or rigs"
        lighter = ["a lighter fusion.model or a smaller output.size takes less"] if shared else []
        return "; ".join([f"{used}, or frames arrive in bursts", *lighter, *fewer])
    waits = f" while {shared}" if shared else ""
    parts = [f"{rate}; {cost.name} takes {_ms(cost.frame_ms)} per frame{waits}, {_ms(budget_ms)} are available"]
    faster = [option for option in options if option.frame_ms < MARGIN * cost.frame_ms]
    if faster:
        parts.append("measured here: " + ", ".join(f"{one.text} {_ms(one.frame_ms)}" for one in faster))
    elif options:
        parts.append("no lighter model is faster here")
    if cost.size is not None and (size := smaller_size(cost.size, MARGIN * budget_ms / cost.frame_ms)):
        parts.append(f"or output.size: {size} (estimated)")
    if overload.mailbox.startswith("sink-"):
        parts.append("a smaller output.size, or a faster preset of this output, takes less")
    return "; ".join([*parts, *fewer])


def smaller_size(size: tuple[int, int], share: float) -> str:
    """``WIDTHxHEIGHT`` with about ``share`` of the pixels of (height, width); empty if that is not smaller."""
    if share >= 1:
        return ""
    height, width = (max(SIZE_STEP_PX, int(side * share**0.5 / SIZE_STEP_PX) * SIZE_STEP_PX) for side in size)
    return f"{width}x{height}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
