"""YAML files checked against pydantic models: every error with its line, key path and nearest valid key.

::

    document = read_yaml("roof.calibration.yaml")
    calibration = validate_model(CalibrationFile, document)

``validate_model`` reports all problems at once. Messages show the text of the file, with secrets
hidden, and never a substituted value (of an environment variable).
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from fusepipe.core.errors import ConfigError, Problem
from fusepipe.core.redact import redact, redact_url
from fusepipe.core.suggest import closest, did_you_mean
from fusepipe.core.yaml_tree import KeyPath, Mark, Node, YamlDocument, key_text, parse_yaml, read_yaml

__all__ = [
    "KeyPath",
    "Mark",
    "Node",
    "Spot",
    "YamlDocument",
    "field_keys",
    "in_file_order",
    "key_text",
    "locate",
    "model_problems",
    "parse_yaml",
    "read_yaml",
    "validate_model",
]

M = TypeVar("M", bound=BaseModel)

# Validation context for data from a file: keys are the aliases, numbers need units.
FROM_YAML: Mapping[str, Any] = {"yaml": True}

_SECRET_KEYS = frozenset({"token", "password", "password_hash", "credential"})  # a mistyped secret is not shown either

_EXPECTED = {
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "tuple_type": "should be a list: [a, b]",
    "list_type": "should be a list: [a, b]",
    "dict_type": "should hold keys and values (key: value)",
    "model_type": "should hold keys and values (key: value)",
    "model_attributes_type": "should hold keys and values (key: value)",
    "missing": "is missing",
    "extra_forbidden": "unknown key",
}


def validate_model(model: type[M], document: YamlDocument) -> M:
    """The root of ``document`` as a ``model``; raises :class:`ConfigError` with all problems."""
    try:
        return model.model_validate(document.root.data(), context=dict(FROM_YAML))
    except ValidationError as error:
        raise ConfigError(problems=model_problems(error, model, document, document.root)) from None


def model_problems(error: ValidationError, model: type[BaseModel], document: YamlDocument, root: Node) -> list[Problem]:
    """A pydantic error of ``model`` against the data of ``root``, as problems in the order of the file."""
    found: list[tuple[Problem, tuple[str | int, ...]]] = []
    suggested: set[tuple[str | int, ...]] = set()
    for detail in error.errors(include_url=False):
        loc, kind = detail["loc"], detail["type"]
        spot = locate(root, loc)
        if kind == "extra_forbidden":
            key, valid = str(loc[-1]), _keys_at(model, loc[:-1])
            absent = [name for name in valid if name not in spot.holder.mapping()]
            close = closest(key, absent)
            if close:
                suggested.add((*loc[:-1], close))
            message = f"unknown key ({did_you_mean(key, absent if close else valid)})"
        else:
            message = _message(detail, spot.node)
        problem = document.problem(spot.mark, message)
        found.append(
            (
                replace(problem, key=redact(problem.key), message=redact(message)),
                loc if kind == "missing" else (),
            )
        )
    # A misspelt required key is one mistake, not two.
    kept = [problem for problem, missing in found if missing not in suggested]
    return in_file_order(kept)


def value_problem(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """One problem of a pydantic error of ``model``, of data that is from no YAML file, in the words of one."""
    if detail["type"] == "extra_forbidden":
        return f"unknown key ({did_you_mean(str(detail['loc'][-1]), _keys_at(model, detail['loc'][:-1]))})"
    value, mark = detail["input"], Mark(0, 0)
    if isinstance(value, Mapping):
        return redact(_message(detail, Node({}, mark)))
    if isinstance(value, list | tuple):
        return redact(_message(detail, Node(tuple(Node(str(item), mark) for item in value), mark)))
    return redact(_message(detail, Node(value, mark)))


def in_file_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, from the top of the file to its end."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


@dataclass(frozen=True, slots=True)
class Spot:
    """The target of a key path: the value, the mapping or list that holds it, and the position of its key."""

    node: Node
    holder: Node
    mark: Mark


def locate(root: Node, loc: Sequence[str | int]) -> Spot:
    """Follows a path of keys and indices as far as it exists in the file.

    pydantic's ``loc`` also has elements that are not keys (tags of unions, names of validators): those are
    skipped. If the last key is missing in the file, the position is its holder's and the path its own.
    """
    spot = Spot(root, root, root.mark)
    for position, part in enumerate(loc):
        node = spot.node
        child = node.child(part)
        if child is not None:
            mark = node.keys[part] if isinstance(part, str) else child.mark
            spot = Spot(child, node, mark)
        elif position == len(loc) - 1 and isinstance(node.value, Mapping | tuple) and not _is_tag(part):
            spot = Spot(node, node, replace(spot.mark, path=(*spot.mark.path, part)))
    return spot


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or " " in part)


def _message(detail: ErrorDetails, node: Node) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    about_value = kind != "missing" and detail["loc"][-1:] != ("[key]",)
    if kind == "value_error" and isinstance(node.value, tuple | Mapping):
        about_value = False
    if detail["loc"] and detail["loc"][-1] in _SECRET_KEYS:
        about_value = False
    got = f" (got {_shown(node)})" if about_value else ""
    if kind in ("literal_error", "enum"):
        return f"should be {context['expected']}{got}{_literal_hint(node, str(context['expected']))}"
    if kind == "value_error":
        return f"{context['error']}{got}"
    if kind in _EXPECTED:
        return _EXPECTED[kind] + got
    text = detail["msg"].removeprefix("Input ")
    return text[:1].lower() + text[1:] + got


def _literal_hint(node: Node, expected: str) -> str:
    words = expected.replace(" or ", ", ").replace("'", "").split(", ")
    if isinstance(node.value, bool):
        word = {True: "on", False: "off"}[node.value]
        return f"; write {word}" if word in words else ""
    close = closest(node.value, words) if isinstance(node.value, str) else None
    return f"; did you mean {close!r}?" if close else ""


def _shown(node: Node) -> str:
    """The value as in the file, shortened and without secrets."""
    value = node.value
    if isinstance(value, Mapping):
        return "keys and values"
    if isinstance(value, tuple):
        return "an empty list" if not value else f"a list of {len(value)}"
    if value is None:
        return "nothing"
    if isinstance(value, str):
        text = redact_url(value)
        return repr(text if len(text) <= 60 else text[:57] + "...")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The valid keys of the model at ``loc``: the aliases of its fields."""
    at: list[tuple[str | None, Any]] = [(None, model)]
    for part in loc:
        members = list(_members(at))
        tagged = [kind for tag, kind in members if tag == part]
        further = tagged or [found for _, kind in members if (found := _step(kind, part)) is not None]
        at = [(None, kind) for kind in further] or at
    return [key for _, kind in _members(at) if _is_model(kind) for key in field_keys(kind)]


def field_keys(model: type[BaseModel]) -> dict[str, str]:
    """Key in a file -> name in Python, of each field of a model."""
    keys = {}
    for name, info in model.model_fields.items():
        alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
        keys[alias or name] = name
    return keys


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _members(at: list[tuple[str | None, Any]]) -> Iterator[tuple[str | None, Any]]:
    """Unwraps unions and ``Annotated``; keeps the tag of a discriminated union's member."""
    for tag, kind in at:
        origin = get_origin(kind)
        if origin is Annotated:
            inner, *extras = get_args(kind)
            name = next((extra.tag for extra in extras if isinstance(extra, Tag)), tag)
            yield from _members([(name, inner)])
        elif origin in (Union, types.UnionType):
            yield from _members([(tag, member) for member in get_args(kind)])
        else:
            yield tag, kind


def _step(kind: Any, part: str | int) -> Any:
    """The type of a key or index of ``kind``; ``None`` where it has no such part."""
    if _is_model(kind):
        name = field_keys(kind).get(str(part))
        return kind.model_fields[name].annotation if name else None
    arguments = get_args(kind)
    if isinstance(get_origin(kind), type) and arguments:
        if issubclass(get_origin(kind), Mapping) and isinstance(part, str):
            return arguments[-1]
        if issubclass(get_origin(kind), list | tuple) and isinstance(part, int):
            return arguments[min(part, len(arguments) - 1)] if Ellipsis not in arguments else arguments[0]
    return None
