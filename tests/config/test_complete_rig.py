"""docs/rigs/complete.yaml has every key of the configuration, with its meaning, unit, values and default."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from fusepipe.config.json_schema import json_schema
from fusepipe.config.schema import RigFile
from fusepipe.core.yaml_models import Mark, Node, field_keys, read_yaml

FILE = Path(__file__).parents[2] / "docs" / "rigs" / "complete.yaml"
LINES = FILE.read_text(encoding="utf-8").splitlines()
SCHEMA = json_schema()
UNITS = {"km": "a length", "kbps": "a bit rate", "kB": "a size", "min": "a time"}

Key = tuple[type[BaseModel], str]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field may hold, at any depth of lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def all_keys(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[Key]:
    """Every key that can be written below ``model``."""
    if model in seen:
        return
    seen.add(model)
    for key, name in field_keys(model).items():
        yield model, key
        for inner in models_in(model.model_fields[name].annotation):
            yield from all_keys(inner, seen)


def written_keys(node: Node, models: list[type[BaseModel]]) -> Iterator[tuple[Key, Mark]]:
    """The keys that the file has, with their places; ``models`` are those that ``node`` may be."""
    if isinstance(node.value, tuple):
        for item in node.value:
            yield from written_keys(item, models)
    if not isinstance(node.value, Mapping) or not models:
        return
    fitting = [model for model in models if node.value.keys() <= field_keys(model).keys()]
    if not fitting:  # a mapping of names to models
        for child in node.value.values():
            yield from written_keys(child, models)
        return
    (model,) = [model for model in fitting if required(model) <= node.value.keys()]
    for key, child in node.value.items():
        yield (model, key), node.keys[key]
        yield from written_keys(child, models_in(model.model_fields[field_keys(model)[key]].annotation))


def required(model: type[BaseModel]) -> set[str]:
    return {key for key, name in field_keys(model).items() if model.model_fields[name].is_required()}


def comment_of(mark: Mark) -> str:
    """The comment right above a key that is the first on its line, as one line of text; else empty."""
    if LINES[mark.line - 1][: mark.column - 1].strip(" -"):
        return ""
    above: list[str] = []
    for line in reversed(LINES[: mark.line - 1]):
        if not line.strip().startswith("# "):
            break
        above.insert(0, line.strip()[2:])
    return " ".join(above)


def spec_of(key: Key) -> dict[str, Any]:
    model, name = key
    owner = SCHEMA if model is RigFile else SCHEMA["$defs"][model.__name__]
    spec: dict[str, Any] = owner["properties"][name]
    return spec


def words_of(spec: dict[str, Any]) -> set[str]:
    """What the comment of a key has to name: its unit, and each value of an enumeration."""
    shapes = [spec, *spec.get("anyOf", ())]
    shapes += [SCHEMA["$defs"][ref.rpartition("/")[2]] for shape in shapes if (ref := shape.get("$ref"))]
    patterns = [shape["pattern"] for shape in shapes if "pattern" in shape]
    units = {next(text for unit, text in UNITS.items() if unit in p) for p in patterns if any(u in p for u in UNITS)}
    return units | {str(value) for shape in shapes for value in shape.get("enum", ())}


PLACES: dict[Key, list[Mark]] = defaultdict(list)
for found, where in written_keys(read_yaml(FILE).root, [RigFile]):
    PLACES[found].append(where)
KEYS = list(all_keys(RigFile, set()))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0].__name__}.{key[1]}")
def test_every_key_is_written_and_explained(key: Key) -> None:
    model, name = key
    assert key in PLACES, f"docs/rigs/complete.yaml lacks the key {name!r} of {model.__name__}"
    comments = [comment for mark in PLACES[key] if (comment := comment_of(mark))]
    assert comments, f"{name}: write its meaning, unit and default above it"
    comment, spec = comments[-1], spec_of(key)
    if name in required(model):
        assert comment.endswith("Required."), comment
    else:
        stated = re.search(r"Default: ([^\s,]+?)[,.]?(?:\s|$)", comment)
        assert stated, f"{name}: state its default: {comment}"
        default = spec.get("default")
        assert stated[1] == ("none" if default is None or default == {} else str(default)), comment
    missing = [word for word in words_of(spec) if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", comment)]
    assert missing == [], comment


def test_a_key_that_the_schema_gains_is_missed() -> None:
    class Longer(RigFile):
        added: int = 0

    assert [key for _, key in all_keys(Longer, set()) if key == "added"] == ["added"]
    assert (Longer, "added") not in PLACES


def test_the_file_is_what_the_schema_describes() -> None:
    models = {model.__name__ for model, _ in KEYS} - {"RigFile"}
    described = {name for name, model in SCHEMA["$defs"].items() if "properties" in model}
    assert models == described
