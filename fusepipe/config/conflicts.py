"""Outputs that would overwrite each other or an input, or need the same port: found before the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from fusepipe.config.endpoints import Endpoint
from fusepipe.config.schema import FileSink, ImagesSink, PreviewSink, Rig, RtspSink
from fusepipe.core.errors import Problem
from fusepipe.core.segment_names import SIDECAR, SegmentNames
from fusepipe.core.yaml_models import KeyPath, Mark, Node, YamlDocument, key_text, locate


def conflicts(document: YamlDocument, rigs: Sequence[tuple[Rig, Node]]) -> dict[str, list[Problem]]:
    """The problems of each rig, by its name, where these rigs run together."""
    inputs: dict[str, Mark] = {}
    for rig, node in rigs:
        for band in ("infrared", "visible"):
            if getattr(rig, band).kind == "path":
                inputs.setdefault(getattr(rig, band).url, locate(node, (band, "url")).mark)
    found: dict[str, list[Problem]] = {}
    outputs: dict[str, Mark] = {}
    listeners: list[tuple[str, Endpoint, Mark]] = []
    for rig, node in rigs:
        for kind, endpoint, place in _listeners(rig):
            mark = locate(node, place).mark
            other = next((m for k, e, m in listeners if _clash((k, e), (kind, endpoint))), None)
            listeners.append((kind, endpoint, mark))
            if other is not None:
                message = f"cannot listen on port {endpoint.port} together with {_named(other)}: use another port"
                found.setdefault(rig.name, []).append(document.problem(mark, message))
        for message, place in _deleting(rig, [other for other, _ in rigs]):
            found.setdefault(rig.name, []).append(document.problem(locate(node, place).mark, message))
        for path, place in _outputs(rig):
            mark = locate(node, place).mark
            message = ""
            if (plain := path.replace("%%", "%")) in inputs:
                message = f"overwrites the input {_named(inputs[plain])}"
            elif path in outputs:
                message = f"writes to the same place as {_named(outputs[path])}"
            outputs.setdefault(path, mark)
            if message:
                found.setdefault(rig.name, []).append(document.problem(mark, message))
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


def _listeners(rig: Rig) -> list[tuple[str, Endpoint, KeyPath]]:
    """(kind, address, key path) of each server."""
    return [
        (key, sink.endpoint, ("sinks", index, key))
        for index, sink in enumerate(rig.sinks)
        if isinstance(sink, RtspSink | PreviewSink) and not sink.endpoint.push
        for key in ("rtsp" if isinstance(sink, RtspSink) else "preview",)
    ]


def _clash(one: tuple[str, Endpoint], other: tuple[str, Endpoint]) -> bool:
    """Whether two servers need the same port; streams, and pages, share one server at equal addresses."""
    (kind, place), (other_kind, other_place) = one, other
    if place.port != other_place.port:
        return False
    if place.host == other_place.host:
        return kind != other_kind
    return any(host in ("0.0.0.0", "::") for host in (place.host, other_place.host))


def _named(mark: Mark) -> str:
    return f"{key_text(mark.path)} on line {mark.line}"
