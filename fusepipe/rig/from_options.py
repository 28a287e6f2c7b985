"""Rigs that commands build from their options and arguments instead of a rigs.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fusepipe.config.schema import Rig, SourceConfig
from fusepipe.core.errors import UsageError
from fusepipe.core.yaml_models import value_problem

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
        details = error.errors()
        # a mistyped key that must be given is also missing
        detail = next((found for found in details if found["type"] == "extra_forbidden"), details[0])
        if detail["type"] in ("extra_forbidden", "missing"):
            key = ".".join(str(part) for part in detail["loc"])
            raise UsageError(f"{key}: {value_problem(detail, Rig)}") from error
        option = str(detail["loc"][-1]) if detail["loc"] else "options"
        # of a camera's keys that contradict each other the input is all of them
        value = "" if isinstance(detail["input"], dict) else f"{detail['input']!r} "
        raise UsageError(f"{option}: {value}{_message(error)}") from error


CameraKeys = Mapping[str, Mapping[str, Any]]
"""Keys of ``infrared`` and ``visible`` besides the URL, such as ``{"infrared": {"rotate": 90}}``."""


def minimal_rig(name: str, infrared: str, visible: str, keys: CameraKeys | None = None) -> Rig:
    """A rig of two sources without outputs, for programs that consume its pairs themselves."""
    bodies = {
        band: {"url": url, **(keys or {}).get(band, {})} for band, url in (("infrared", infrared), ("visible", visible))
    }
    try:
        return Rig.model_validate({"name": name, **bodies})
    except ValidationError as error:
        raise UsageError(_usage(error)) from error


def source_config(url: str, keys: Mapping[str, Any] | None = None) -> SourceConfig:
    """The settings of one camera from its URL or path, and its other keys. Raises :class:`UsageError`."""
    rig = minimal_rig("source", url, "synthetic://street", {"infrared": keys or {}})
    return rig.infrared


def _usage(error: ValidationError) -> str:
    """What is wrong with a value; secrets are redacted."""
    value = error.errors()[0]["input"]
    return _message(error) if isinstance(value, dict) else f"{value!r}: {_message(error)}"


def _message(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def setting_name(rig: Rig, key: str) -> str:
    """What messages call a setting: its key or, for a rig made from options, the option; not all keys have one."""
    return _FUSE_OPTIONS.get(key, key) if rig.from_options else key
