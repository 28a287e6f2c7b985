"""Sets ``sync.offset`` of one rig in its file: only that value is changed, comments and layout stay as they are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from fusepipe.config.rig_file import RigFileDocument, load_rig_file
from fusepipe.config.sync import keys_of_sync
from fusepipe.core.errors import OutputExistsError, SinkError, UsageError
from fusepipe.core.files import atomic_file
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.units import MS
from fusepipe.core.yaml_tree import YamlDocument, parse_yaml


@dataclass(frozen=True, slots=True)
class WrittenOffset:
    """``before`` is the value that the rig had, if any, ``value`` the one it has.

    ``backup`` is the file as it was, ``None`` where nothing changed.
    """

    path: Path
    rig: str
    before: str | None
    value: str
    backup: Path | None

    @property
    def text(self) -> str:
        """For people."""
        if self.backup is None:
            return f"{self.path}: the rig {self.rig} has sync: {{offset: {self.value}}} already"
        before = "" if self.before is None else f" in place of {self.before}"
        return (
            f"wrote sync: {{offset: {self.value}}}{before} to the rig {self.rig} in {self.path}; the file as it was: "
            f"{self.backup}"
        )


def rig_to_edit(path: Path, name: str | None) -> str:
    """The rig of that name, or the only one, in a valid file.

    Raises :class:`ConfigError` for a file that is not valid, :class:`UsageError` where the rig is not clear.
    """
    names = load_rig_file(path).names
    if name is None and len(names) > 1:
        raise UsageError(f"{path}: has the rigs {', '.join(names)}; name one with --rig-name")
    if name is not None and name not in names:
        raise UsageError(f"{path}: unknown rig {name!r} ({did_you_mean(name, names)})")
    return name or names[0]


def write_offset(
    path: Path,
    name: str | None,
    offset_ns: int,
    stamp: Callable[[], str] = lambda: time.strftime("%Y%m%d-%H%M%S"),
) -> WrittenOffset:
    """Sets ``sync.offset`` of a rig to whole milliseconds, and keeps the file as it was beside it.

    Atomic, with the permissions of the file, which may hold passwords. Raises :class:`ConfigError` and
    :class:`UsageError` as :func:`rig_to_edit`, and :class:`UsageError` where the key cannot be set without changing
    another rig; :class:`SinkError` where the file cannot be written.
    """
    path = path.resolve()  # of a link the file it leads to is replaced
    name = rig_to_edit(path, name)
    content = path.read_bytes()
    text = content.decode("utf-8-sig")
    mark = content[: len(content) - len(text.encode())]  # a byte order mark stays
    value = f"{offset_ns / MS:.0f}ms"
    new = with_offset(text, name, value, str(path))
    before = _sync(text, name, path).get("offset")
    if before == value:
        return WrittenOffset(path, name, value, value, None)
    backup = path.with_name(f"{path.name}.{stamp()}.bak")
    mode = path.stat().st_mode & 0o777
    try:
        _write(backup, content, mode, overwrite=False)
        _write(path, mark + new.encode(), mode, overwrite=True)
    except FileExistsError as error:
        raise OutputExistsError(f"{backup}: already exists; move it away") from error
    except OSError as error:
        raise SinkError(f"{path}: cannot be written: {error.strerror or error}") from error
    return WrittenOffset(path, name, None if before is None else str(before), value, backup)


def with_offset(text: str, rig: str, value: str, file: str) -> str:
    """The text of a rig file with ``sync.offset`` of a rig set to a value such as ``-120ms``; ``file`` is for errors.

    Raises :class:`UsageError` where more than that would change, as in a part that other rigs share.
    """
    new = _edited(text, rig, value)
    old_data, new_data = parse_yaml(text, file).data(), parse_yaml(new, file).data()
    own = old_data["rigs"][rig].get("sync")
    old_data["rigs"][rig]["sync"] = {**(own if isinstance(own, dict) else {}), "offset": value}
    shared = _sync(text, rig, Path(file)) | {"offset": value} != _sync(new, rig, Path(file))
    if old_data != new_data or shared:
        raise UsageError(
            f"{file}: sync of the rig {rig} is shared with others; set it by hand: sync: {{offset: {value}}}"
        )
    return new


def _sync(text: str, rig: str, path: Path) -> dict[str, Any]:
    """The rig's keys of ``sync`` with the defaults of the file."""
    keys = keys_of_sync(RigFileDocument(YamlDocument(str(path), parse_yaml(text, str(path)))).merged(rig).get("sync"))
    return keys if isinstance(keys, dict) else {}


def _edited(text: str, rig: str, value: str) -> str:
    root = YAML(typ="safe", pure=True).compose(text)
    rigs = _child(root, "rigs")
    body = None if rigs is None else _child(rigs, rig)
    assert isinstance(body, MappingNode)  # the file has been checked
    sync = _child(body, "sync")
    if not isinstance(sync, MappingNode):
        if sync is None:
            return _inserted(text, body, f"sync: {{offset: {value}}}")
        if sync.start_mark.index < sync.end_mark.index:
            return _replaced(text, sync, f"{{offset: {value}}}")
        key = next(
            key for key, node in body.value if node is sync
        )  # nothing under it: the mark is that of what follows
        colon = text.index(":", key.end_mark.index) + 1
        return f"{text[:colon]} {{offset: {value}}}{text[colon:]}"
    offset = _child(sync, "offset")
    return _inserted(text, sync, f"offset: {value}") if offset is None else _replaced(text, offset, value)


def _child(node: Node, key: str) -> Node | None:
    """The value of a mapping's own key."""
    pairs = node.value if isinstance(node, MappingNode) else []
    return next((value for name, value in pairs if isinstance(name, ScalarNode) and name.value == key), None)


def _inserted(text: str, mapping: MappingNode, key: str) -> str:
    """The text with a key and its value before the first one of a mapping."""
    if mapping.flow_style:
        start = text.index("{", mapping.start_mark.index) + 1  # behind an anchor
        comma = ", " if mapping.value else ""
        return f"{text[:start]}{key}{comma}{text[start:]}"
    first = mapping.value[0][0].start_mark
    line_end = "\r\n" if "\r\n" in text else "\n"
    return f"{text[: first.index]}{key}{line_end}{' ' * first.column}{text[first.index :]}"


def _replaced(text: str, node: Node, value: str) -> str:
    return text[: node.start_mark.index] + value + text[node.end_mark.index :]


def _write(path: Path, content: bytes, mode: int, *, overwrite: bool) -> None:
    with atomic_file(path, overwrite=overwrite) as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
