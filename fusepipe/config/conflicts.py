"""Outputs that would overwrite each other or an input, or need the same port: found before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from fusepipe.config.endpoints import Endpoint
from fusepipe.config.schema import FileSink, ImagesSink, PreviewSink, Rig, RtspSink
from fusepipe.core.errors import Problem
from fusepipe.core.segment_names import SIDECAR, SegmentNames
from fusepipe.core.yaml_models import KeyPath, Mark, Node, YamlDocument, key_text, locate


@dataclass(frozen=True, slots=True)
class PlacedRig:
    """A rig, and its place in its file."""

    rig: Rig
    node: Node
    document: YamlDocument

    def mark(self, key_path: KeyPath) -> _Place:
        """The place of a key."""
        return _Place(self.document, locate(self.node, key_path).mark)


@dataclass(frozen=True, slots=True)
class _Place:
    document: YamlDocument
    mark: Mark

    def problem(self, message: str) -> Problem:
        return self.document.problem(self.mark, message)

    def seen_from(self, other: _Place) -> str:
        """``rigs.a.sinks[0] on line 7``, with the name of the file in another one."""
        file = "" if self.document is other.document else f"{self.document.file}: "
        return f"{file}{key_text(self.mark.path)} on line {self.mark.line}"


def conflicts(rigs: Sequence[PlacedRig]) -> list[list[Problem]]:
    """The problems of each of these rigs, where they run together; of two that clash, those of the later one."""
    inputs: dict[str, _Place] = {}
    for placed in rigs:
        for band in ("infrared", "visible"):
            if getattr(placed.rig, band).kind == "path":
                inputs.setdefault(getattr(placed.rig, band).url, placed.mark((band, "url")))
    found: list[list[Problem]] = []
    outputs: dict[str, _Place] = {}
    listeners: list[tuple[_Server, _Place]] = []
    for placed in rigs:
        problems: list[Problem] = []
        for server, key_path in _servers(placed.rig):
            place = placed.mark(key_path)
            clash = next(((text, at) for other, at in listeners if (text := _clash(other, server))), None)
            listeners.append((server, place))
            if clash is not None:
                problems.append(place.problem(clash[0].format(clash[1].seen_from(place))))
        for message, key_path in _deleting(placed.rig, [other.rig for other in rigs]):
            problems.append(placed.mark(key_path).problem(message))
        for path, key_path in _outputs(placed.rig):
            place = placed.mark(key_path)
            if (plain := path.replace("%%", "%")) in inputs:
                problems.append(place.problem(f"overwrites the input {inputs[plain].seen_from(place)}"))
            elif path in outputs:
                problems.append(place.problem(f"writes to the same place as {outputs[path].seen_from(place)}"))
            outputs.setdefault(path, place)
        found.append(problems)
    return found


def _outputs(rig: Rig) -> list[tuple[str, KeyPath]]:
    places: list[tuple[str, KeyPath]] = []
    for index, sink in enumerate(rig.sinks):
        if isinstance(sink, FileSink):
            places += [(path, ("sinks", index, "file")) for path in _files(sink)]
        elif isinstance(sink, ImagesSink):
            places.append((sink.images.replace("%", "%%"), ("sinks", index, "images")))
        elif isinstance(sink, RtspSink):
            place = sink.endpoint
            kind = "rtsp+push" if place.push else "rtsp"
            places.append((f"{kind}://{place.host}:{place.port}/{place.path}", ("sinks", index, "rtsp")))
    return places


def _files(sink: FileSink) -> list[str]:
    """The file name patterns that a sink writes."""
    return [sink.file, *([str(PurePath(sink.file).with_suffix(SIDECAR))] if sink.with_sidecar else [])]


def _deleting(rig: Rig, rigs: Sequence[Rig]) -> list[tuple[str, KeyPath]]:
    """(message, key path) where a recording that deletes old segments would mistake another's files for them."""
    wrong: list[tuple[str, KeyPath]] = []
    for index, sink in enumerate(rig.sinks):
        if not isinstance(sink, FileSink) or (sink.max_age_ns is None and sink.max_total_bytes is None):
            continue
        names = SegmentNames(sink.file)
        for other_rig, number, other in ((r, n, o) for r in rigs for n, o in enumerate(r.sinks)):
            if other is sink or not isinstance(other, FileSink) or other.file == sink.file:
                continue
            if any(names.matches(next(SegmentNames(file).paths(0))) for file in _files(other)):
                key = "max_age" if sink.max_age_ns is not None else "max_total"
                message = (
                    f"would delete what rigs.{other_rig.name}.sinks[{number}] records too, whose names have the "
                    "same format: use another folder"
                )
                wrong.append((message, ("sinks", index, key)))
    return wrong


@dataclass(frozen=True, slots=True)
class _Server:
    kind: str
    place: Endpoint
    shared: Mapping[str, object]  # what all sinks on one server have in common, by what it is called


def _servers(rig: Rig) -> list[tuple[_Server, KeyPath]]:
    """Each server with its key path."""
    found: list[tuple[_Server, KeyPath]] = []
    for index, sink in enumerate(rig.sinks):
        if isinstance(sink, RtspSink | PreviewSink) and not sink.endpoint.push:
            key = "rtsp" if isinstance(sink, RtspSink) else "preview"
            shared: dict[str, object] = {"certificate and key": (sink.certificate, sink.key or sink.certificate)}
            if isinstance(sink, PreviewSink):
                shared |= {"users": sink.users, "token": sink.token}
            found.append((_Server(key, sink.endpoint, shared), ("sinks", index, key)))
    return found


def _clash(one: _Server, other: _Server) -> str:
    """Why two servers cannot run together, with ``{}`` for the first; empty if they can.

    Streams, and pages, share one server at equal addresses.
    """
    if one.place.port != other.place.port:
        return ""
    busy = f"cannot listen on port {one.place.port} together with {{}}: use another port"
    if one.place.host != other.place.host:
        return busy if any(host in ("0.0.0.0", "::") for host in (one.place.host, other.place.host)) else ""
    if one.kind != other.kind:
        return busy
    different = next((name for name, value in one.shared.items() if value != other.shared[name]), None)
    if different is None:
        return ""
    return f"has not the {different} of {{}}, which listens on port {one.place.port} too: use the same"
