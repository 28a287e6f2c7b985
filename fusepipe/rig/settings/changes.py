"""The difference between two versions of a rig, applied key by key.

A key that has a setter is applied, and the rig in force then has its new value; every other changed key is reported as
needing a restart. Only values of applied keys are shown: others may be secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from fusepipe.config.schema import Rig, RigBody
from fusepipe.core.errors import FusepipeError
from fusepipe.core.units import format_duration
from fusepipe.core.yaml_models import KeyPath, field_keys, key_text

Apply = Callable[[Rig], str | None]
"""Applies a key's new value from a rig; may return a remark. Raises :class:`FusepipeError` where it cannot."""


def changed_keys(old: BaseModel, new: BaseModel, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The key paths of what differs, sinks one by one unless there are more or fewer of them."""
    keys = field_keys(RigBody) if isinstance(old, Rig) else field_keys(type(old))
    for key, name in keys.items():
        before, after, here = getattr(old, name), getattr(new, name), (*path, key)
        if before == after:
            continue
        if isinstance(before, BaseModel):
            yield from changed_keys(before, after, here)
        elif _models(before) and _models(after) and len(before) == len(after):
            for index, (one, other) in enumerate(zip(before, after, strict=True)):
                if type(one) is not type(other):
                    yield (*here, index)
                elif one != other:
                    yield from changed_keys(one, other, (*here, index))
        else:
            yield here


def apply_changes(old: Rig, new: Rig, setters: Mapping[str, Apply]) -> tuple[Rig, list[str]]:
    """Applies what has a setter (by key path): the rig now in force, and a line for each key that differs."""
    lines = []
    for path in changed_keys(old, new):
        key = key_text(path)
        if key not in setters:
            lines.append(f"{old.name}: {key}: keeps its old value until a restart")
            continue
        candidate = with_value_of(old, new, path)
        try:
            remark = setters[key](candidate)
        except FusepipeError as error:
            lines.append(f"{old.name}: {key}: keeps its old value: {error}")
            continue
        old = candidate
        lines.append(f"{old.name}: {key}: {remark or f'is now {_shown(new, path)}'}")
    return old, lines


def with_value_of(old: Rig, new: Rig, path: KeyPath) -> Rig:
    """``old`` with the value that one key has in ``new``."""
    copied: Rig = _copied(old, new, path)
    return copied


def _copied(old: Any, new: Any, path: KeyPath) -> Any:
    if not path:
        return new
    head, rest = path[0], path[1:]
    if isinstance(head, int):
        return tuple(_copied(one, new[i], rest) if i == head else one for i, one in enumerate(old))
    name = field_keys(type(old))[head]
    return old.model_copy(update={name: _copied(getattr(old, name), getattr(new, name), rest)})


def _models(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, BaseModel) for item in value)


def _shown(rig: Rig, path: KeyPath) -> str:
    """A value as it is written in the file."""
    value: Any = rig
    name = ""
    for part in path:
        name = "" if isinstance(part, int) else field_keys(type(value))[part]
        value = value[part] if isinstance(part, int) else getattr(value, name)
    if value is None:
        return "not set"
    if name.endswith("_ns"):
        return format_duration(value)
    if name.endswith("_bytes"):
        return f"{value / 1e6:g}MB"
    return f"{value:g}m" if name.endswith("_m") else str(value)
