"""Keys and values that are reserved but not available in this version: rejected, never ignored.

The fields of the models are marked with ``"available": False`` (a key) or ``"unavailable_values"`` (some of its
values); removing the mark makes it available.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from fusepipe.config.schema import RigBody
from fusepipe.core.errors import Problem
from fusepipe.core.yaml_models import KeyPath, field_keys, key_text

NOT_YET = "not available yet in this version"


def unavailable(rig: RigBody) -> list[Problem]:
    """The unavailable keys of a rig as problems without a position in a file; empty for a rig that can run."""
    return [Problem("", 0, 0, key_text(path), message) for path, message in unavailable_keys(rig)]


def unavailable_keys(model: BaseModel, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) of each key that is set and not available."""
    for key, name in field_keys(type(model)).items():
        value = getattr(model, name)
        here = (*path, key)
        if isinstance(value, BaseModel):
            yield from unavailable_keys(value, here)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from unavailable_keys(item, (*here, index))
        if name in model.model_fields_set and value is not None:
            message = _refusal(model, name, value)
            if message:
                yield here, message


def _refusal(model: BaseModel, name: str, value: Any) -> str:
    info = type(model).model_fields[name]
    marks = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if marks.get("available") is False and value != info.default:
        return NOT_YET
    later = marks.get("unavailable_values")
    if isinstance(later, list) and value in later:
        return f"{value} is {NOT_YET}; omit it, or write {info.default}"
    return ""
