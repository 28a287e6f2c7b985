"""Loads a rigs.yaml: ``load_rig_file("rigs.yaml").select(["demo"])``.

Loading checks the top-level keys and the names. A rig's own keys are checked, and its environment variables
substituted, when it is selected, so that one file can hold rigs of several machines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from fusepipe.config.base import ConfigModel
from fusepipe.config.conflicts import PlacedRig, conflicts
from fusepipe.config.environment import Substitution
from fusepipe.config.locations import input_kind
from fusepipe.config.rig_path import ADVICE
from fusepipe.config.schema import Rig, RigBody, check_rig_name
from fusepipe.config.sinks import SINKS
from fusepipe.config.sync import keys_of_sync
from fusepipe.config.unsupported import unavailable_keys
from fusepipe.core.errors import ConfigError, Problem
from fusepipe.core.redact import redact_url
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.yaml_models import (
    FROM_YAML,
    Mark,
    Node,
    YamlDocument,
    in_file_order,
    locate,
    model_problems,
    read_yaml,
    validate_model,
)

SECTIONS = ("sync", "registration", "fusion", "output")


class _Sections(ConfigModel):
    """The keys of ``defaults``; the contents of a section are checked with each rig."""

    sync: Annotated[dict[str, Any] | None, BeforeValidator(keys_of_sync)] = None
    registration: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None
    output: dict[str, Any] | None = None


class _TopLevel(ConfigModel):
    """The top-level keys of the file; :class:`fusepipe.config.schema.RigFile` is the whole format."""

    schema_version: Literal[1] = Field(validation_alias="schema")
    defaults: _Sections | None = None
    rigs: dict[Annotated[str, AfterValidator(check_rig_name)], dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class CheckedRig:
    """The result of checking one rig: ``rig`` where it can run, else ``None``.

    ``unset`` lists uses of environment variables that are not set, ``problems`` everything else.
    """

    name: str
    rig: Rig | None
    problems: tuple[Problem, ...]
    unset: tuple[Problem, ...]


class RigFileDocument:
    """A rigs.yaml as read, with the positions of its keys."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._root = document.root.mapping()
        self.path = Path(document.file)
        self.base_dir = self.path.absolute().parent
        self.names: tuple[str, ...] = tuple(self._root["rigs"].mapping())

    def select(self, names: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> list[Rig]:
        """The rigs of these names in this order; all rigs of the file for ``None``.

        Raises :class:`ConfigError` with all their problems, or for an unknown name.
        """
        checked = self.check(names, environ)
        problems = in_file_order(p for rig in checked for p in (*rig.problems, *rig.unset))
        if problems:
            raise ConfigError(problems=problems)
        return [result.rig for result in checked if result.rig is not None]

    def check(self, names: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> list[CheckedRig]:
        """Checks rigs without raising for their problems; see :meth:`select`."""
        return with_conflicts([(self, result) for result in self.check_keys(names, environ)])

    def check_keys(
        self, names: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
    ) -> list[CheckedRig]:
        """Checks rigs one by one, each as if it ran alone."""
        wanted = list(dict.fromkeys(self.names if names is None else names))
        for name in wanted:
            if name not in self.names:
                message = f"unknown rig {name!r} ({did_you_mean(name, self.names)})"
                raise ConfigError(problems=[self._document.problem(self._document.root.keys["rigs"], message)])
        environ = os.environ if environ is None else environ
        return [self._check_one(name, self._merged(name), environ) for name in wanted]

    def merged(self, name: str) -> dict[str, Any]:
        """The keys of a rig as written, with the defaults of the file under them."""
        data: dict[str, Any] = self._merged(name).data()
        return data

    def placed(self, rig: Rig) -> PlacedRig:
        """One of its rigs with the positions of its keys."""
        return PlacedRig(rig, self._merged(rig.name), self._document)

    def describe(self, name: str) -> str:
        """One rig in a line: ``a.mkv + b.mkv -> out/fused.mkv``; secrets hidden."""
        node = self._merged(name)
        inputs = [_text(locate(node, (band, "url")).node) for band in ("infrared", "visible")]
        sinks = node.child("sinks")
        entries = sinks.value if sinks and isinstance(sinks.value, tuple) else ()
        outputs = [_text(locate(entry, (kind,)).node) for entry in entries for kind in SINKS if entry.child(kind)]
        return f"{' + '.join(map(_short, inputs))} -> {', '.join(map(redact_url, outputs)) or 'nothing'}"

    def body(self, name: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The keys of a valid rig as plain values, with the defaults of the file and environment variables substituted.

        Raises :class:`ConfigError` as :meth:`select` does.
        """
        self.select([name], environ)
        substitution = Substitution(self._document, os.environ if environ is None else environ)
        data: dict[str, Any] = substitution.data(self._merged(name))
        return data

    def problem_at(self, name: str, key_path: Sequence[str | int], message: str) -> Problem:
        """A problem with a key of a rig that a check outside of the models has found."""
        return self._document.problem(locate(self._merged(name), key_path).mark, message)

    def _check_one(self, name: str, node: Node, environ: Mapping[str, str]) -> CheckedRig:
        substitution = Substitution(self._document, environ)
        data = substitution.data(node)
        problems = list(substitution.malformed)
        rig = None
        try:
            RigBody.model_validate(data, context=dict(FROM_YAML))  # without name and base_dir, which are not keys
            rig = Rig.model_validate({**data, "name": name, "base_dir": self.base_dir}, context=dict(FROM_YAML))
        except ValidationError as error:
            # a value with an unset variable is not also reported as invalid
            unknown = {(p.line, p.column, p.key) for p in substitution.unset}
            found = model_problems(error, RigBody, self._document, node)
            problems += [p for p in found if (p.line, p.column, p.key) not in unknown]
        if rig is not None:
            if not rig.sinks and not _at(node, "sinks"):
                message = "is missing; list the outputs, such as [{file: out/fused.mkv}]"
                problems.append(self._document.problem(locate(node, ("sinks",)).mark, message))
            for path, message in unavailable_keys(rig):
                problems.append(self._document.problem(locate(node, path).mark, message))
        usable = None if problems or substitution.unset else rig
        return CheckedRig(name, usable, tuple(in_file_order(problems)), tuple(in_file_order(substitution.unset)))

    def _merged(self, name: str) -> Node:
        """The rig's node with the defaults of the file under its own keys."""
        rigs = self._root["rigs"]
        rig = rigs.mapping()[name]
        # the position of the rig is its name, not the first key under it
        values, keys, mark = dict(rig.mapping()), dict(rig.keys), rigs.keys[name]
        defaults = self._root.get("defaults")
        for section in SECTIONS:
            own = values.get(section)
            shared = defaults.child(section) if defaults else None
            if own is not None and own.value is None:
                own = None  # `sync:` with nothing under it
                del values[section]
            if shared is None or not isinstance(shared.value, Mapping) or (own and not isinstance(own.value, Mapping)):
                continue
            place = keys[section] if own else (defaults or rig).keys[section]
            values[section], keys[section] = _merge(shared, own, place), place
        return Node(values, mark, keys)


def with_conflicts(checked: Sequence[tuple[RigFileDocument, CheckedRig]]) -> list[CheckedRig]:
    """The results, those of rigs that cannot run together with earlier ones with the problems of that."""
    found = iter(conflicts([document.placed(result.rig) for document, result in checked if result.rig is not None]))
    results = []
    for _, result in checked:
        problems = next(found) if result.rig is not None else []
        clash = CheckedRig(result.name, None, (*result.problems, *problems), result.unset)
        results.append(clash if problems else result)
    return results


def _merge(shared: Node, own: Node | None, mark: Mark) -> Node:
    if own is None:
        return shared
    return Node({**shared.mapping(), **own.mapping()}, mark, {**shared.keys, **own.keys})


def _text(node: Node) -> str:
    return node.value if isinstance(node.value, str) else "?"


def _short(url: str) -> str:
    """A synthetic URL with its size as the only option; any other with its secrets hidden."""
    if input_kind(url) != "synthetic":
        return redact_url(url)
    head, _, query = url.partition("?")
    size = next((option[5:] for option in query.split("&") if option.startswith("size=")), "")
    return f"{head} {size}".strip()


def _at(node: Node, key: str) -> bool:
    child = node.child(key)
    return child is not None and bool(child.value)


def load_rig_file(path: Path | str) -> RigFileDocument:
    """Reads a rigs.yaml and checks its top level; raises :class:`ConfigError` with all problems."""
    document = read_yaml(path, advice=ADVICE)
    try:
        validate_model(_TopLevel, document)
    except ConfigError as error:
        if "schema" in document.root.mapping():
            raise
        missing = Problem(document.file, 1, 1, "schema", "is missing; write 'schema: 1' as the first line")
        others = [problem for problem in error.problems if problem.key != "schema"]
        raise ConfigError(problems=[missing, *others]) from error
    return RigFileDocument(document)
