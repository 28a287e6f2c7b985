"""Reading a training configuration from YAML: a shipped one by name, else a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fusepipe.core.errors import ConfigError, UsageError
from fusepipe.core.suggest import did_you_mean

Config = TypeVar("Config", bound=BaseModel)


def read_config(name: str, shipped: Mapping[str, str], kind: type[Config]) -> Config:
    """A configuration by its name in ``shipped`` (name to file beside this module, without ``.yaml``) or its path.

    Raises :class:`ConfigError` (``file: key.path: what is wrong``) for unknown keys and bad values.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if name in shipped:
        text = (resources.files("fusepipe.train.configs") / f"{shipped[name]}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read the training configuration {name!r} ({error}); give {_choice(shipped)} or a YAML file"
            ) from error
    try:
        values = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return kind.model_validate({} if values is None else values)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        message = first["msg"]
        if first["type"] == "extra_forbidden":
            message = f"unknown key: {did_you_mean(path[-1], _keys(kind, path[:-1]))}"
        raise ConfigError(f"{name}: {'.'.join(path) or 'document'}: {message}") from error


def _choice(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _keys(kind: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the section at ``path``."""
    for part in path:
        section = kind.model_fields[part].annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            break
        kind = section
    return list(kind.model_fields)
