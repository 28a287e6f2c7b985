"""Which rigs run in which process, where several processes share the rigs of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fusepipe.config.schema import Rig
from fusepipe.config.sinks import PreviewSink, RtspSink


def rig_shares(rigs: Sequence[Rig], processes: int) -> list[list[Rig]]:
    """The rigs of each process: at most ``processes`` shares, as equal as can be, none empty, in the order of the rigs.

    Rigs that serve on one port stay together, since only one process can listen on it.
    """
    shares: list[list[Rig]] = [[] for _ in range(processes)]
    for together in sorted(_by_port(rigs), key=len, reverse=True):  # stable: else in their order
        min(shares, key=len).extend(together)
    place = {rig.name: number for number, rig in enumerate(rigs)}
    filled = [sorted(share, key=lambda rig: place[rig.name]) for share in shares if share]
    return sorted(filled, key=lambda share: place[share[0].name])


def served_ports(rig: Rig) -> set[int]:
    """The ports on which a rig serves pages and streams."""
    endpoints = [sink.endpoint for sink in rig.sinks if isinstance(sink, PreviewSink | RtspSink)]
    return {endpoint.port for endpoint in endpoints if not endpoint.push}


def _by_port(rigs: Sequence[Rig]) -> list[list[Rig]]:
    """The rigs in groups that have no port in common."""
    group: dict[str, list[Rig]] = {rig.name: [rig] for rig in rigs}
    first: dict[int, Rig] = {}
    for rig in rigs:
        for port in served_ports(rig):
            ours, theirs = group[rig.name], group[first.setdefault(port, rig).name]
            if ours is not theirs:
                theirs.extend(ours)
                group.update({one.name: theirs for one in ours})
    found: defaultdict[int, list[Rig]] = defaultdict(list)
    for rig in rigs:
        found[id(group[rig.name])].append(rig)
    return list(found.values())
