"""Rigs that commands build from their options and arguments instead of a rigs.yaml."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fusepipe.config.schema import Rig
from fusepipe.core.errors import UsageError

# what messages call the keys of a rig that was made from options
_FUSE_OPTIONS = {
    "sync.offset": "--offset",
    "sync.tolerance": "--tolerance",
    "sync.pair_by: order": "--pair-by order",
    "sync.pair_by: time": "--pair-by time",
    "sync.pair_by: name": "--pair-by name",
    "registration.calibration": "--calibration",
}


def rig_from_options(body: dict[str, Any]) -> Rig:
    """A rig from the keys of ``body``; raises :class:`UsageError` that names the option and its value."""
    try:
        return Rig.model_validate({"from_options": True, **body})
    except ValidationError as error:
        detail = error.errors()[0]
        option = str(detail["loc"][-1]) if detail["loc"] else "options"
        raise UsageError(f"{option}: {detail['input']!r} {_message(error)}") from error


def minimal_rig(name: str, infrared: str, visible: str) -> Rig:
    """A rig of two sources without outputs, for programs that consume its pairs themselves."""
    try:
        return Rig.model_validate({"name": name, "infrared": {"url": infrared}, "visible": {"url": visible}})
    except ValidationError as error:
        raise UsageError(f"{error.errors()[0]['input']!r}: {_message(error)}") from error


def _message(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def setting_name(rig: Rig, key: str) -> str:
    """What messages call a setting: its key or, for a rig made from options, the option; not all keys have one."""
    return _FUSE_OPTIONS.get(key, key) if rig.from_options else key
