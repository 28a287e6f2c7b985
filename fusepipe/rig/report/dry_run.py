"""The result of ``fusepipe run --dry-run``: what a run would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would do, from opening its inputs and checking its outputs, and what it would warn of."""

    rig: str
    sources: dict[str, dict[str, Any]]
    pairing: str
    registration: str
    engine: dict[str, Any]
    sinks: list[str]
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> list[str]:
        """For people."""
        lines = [f"{self.rig}:"]
        for band, info in self.sources.items():
            if info["offline_reason"]:
                lines.append(f"  {band}: {info['url']} not connected")
                continue
            rate = f" {info['fps']:g} fps" if info["fps"] else ""
            count = f", {info['frames']} frames" if info["frames"] else ""
            depth = f" {info['bit_depth']} bit" if info["bit_depth"] > 8 else ""
            lines.append(
                f"  {band}: {info['url']} {info['codec']} {info['width']}x{info['height']}{depth}{rate}{count}"
            )
        engine = self.engine
        lines.append(f"  pairing by {self.pairing}, registration: {self.registration}")
        lines.append(
            f"  fusion: {engine['model']} on {engine['backend']} {engine['precision']} {engine['reason']}".rstrip()
        )
        lines += [f"  sink: {sink}" for sink in self.sinks]
        return lines + [f"  warning: {text}" for text in self.warnings]
