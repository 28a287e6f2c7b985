"""Camera keys as words of a command line: ``infrared.repair.stripes=columns``, with values as in a rigs.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusepipe.config.sources import SourceConfig
from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.yaml_models import field_keys
from fusepipe.core.yaml_tree import parse_yaml

CAMERAS = ("infrared", "visible")
_FORM = "write CAMERA.KEY=VALUE, such as infrared.repair.stripes=columns"


def camera_settings(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The keys of each camera that ``words`` set, nested as in a rig file.

    Only their first key is checked here, the rest by the model of the rig. Raises :class:`UsageError`.
    """
    found: dict[str, dict[str, Any]] = {camera: {} for camera in CAMERAS}
    for word in words:
        name, equals, text = word.partition("=")
        camera, *path = name.strip().split(".")
        if not equals or not path or not all(path):
            raise UsageError(f"--set {word}: {_FORM}")
        if camera not in CAMERAS:
            raise UsageError(f"--set {word}: unknown camera {camera!r} ({did_you_mean(camera, CAMERAS)})")
        keys = [key for key in field_keys(SourceConfig) if key != "url"]  # the inputs are arguments
        if path[0] not in keys:
            raise UsageError(f"--set {word}: unknown key {path[0]!r} ({did_you_mean(path[0], keys)})")
        _put(found[camera], path, _value(word, text), word)
    return found


def _put(keys: dict[str, Any], path: list[str], value: Any, word: str) -> None:
    *outer, last = path
    for key in outer:
        inner = keys.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {word}: {key} already has a value; set it once")
        keys = inner
    if last in keys:
        raise UsageError(f"--set {word}: {last} already has a value; set it once")
    keys[last] = value


def _value(word: str, text: str) -> Any:
    if not text.strip():
        raise UsageError(f"--set {word}: the value is missing; {_FORM}")
    try:
        return parse_yaml(f"value: {text}\n", "--set").data()["value"]
    except (ConfigError, KeyError) as error:
        raise UsageError(
            f"--set {word}: {text!r} is no value as in a rig file, such as auto, 5, [0, 0, 320, 240] or {{mode: auto}}"
        ) from error
