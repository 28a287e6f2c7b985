"""Reads a YAML file safely into a tree of nodes with line numbers; errors are one line.

The YAML is version 1.2 with its core schema: ``off``, ``on`` and ``yes`` are words, only ``true`` and
``false`` are booleans. The tree is built from the parser's events, so the file cannot construct
objects: tags are rejected, and anchors, aliases and merge keys (``<<``) are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from fusepipe.core.errors import ConfigError, Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 50
# Values after aliases are expanded: a 1 MiB file without aliases cannot pass it by much, a "billion
# laughs" file does immediately.
MAX_VALUES = 300_000

KeyPath = tuple[str | int, ...]
Scalar = str | int | float | bool | None

# Plain scalars by the core schema of YAML 1.2, section 10.3.2: words, then numbers by the first pattern that matches.
_WORDS: Mapping[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], Scalar]], ...] = (
    (re.compile(r"[-+]?[0-9]{1,40}"), int),
    (re.compile(r"0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float(text.replace(".", ""))),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in the file, with its key path; ``line`` and ``column`` count from 1."""

    line: int
    column: int
    path: KeyPath = ()


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value of the file. ``value`` is a scalar, a tuple of nodes or a mapping of key to node.

    ``mark`` is the position of the value (for an alias: of its anchor); ``keys`` has the position of each
    key of a mapping. ``size`` is the number of values in it, including itself.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    mark: Mark
    keys: Mapping[str, Mark] = field(default_factory=dict)
    size: int = 1

    def data(self) -> Any:
        """The plain Python value: dict, list, str, int, float, bool or None."""
        if isinstance(self.value, Mapping):
            return {key: node.data() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.data() for node in self.value]
        return self.value

    def child(self, key: str | int) -> Node | None:
        """The value at a key of a mapping or an index of a sequence; ``None`` where there is none."""
        if isinstance(self.value, Mapping):
            return self.value.get(str(key)) if isinstance(key, str) else None
        if isinstance(self.value, tuple) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None

    def mapping(self) -> Mapping[str, Node]:
        """The value if it is a mapping, else an empty mapping."""
        return self.value if isinstance(self.value, Mapping) else {}


@dataclass(frozen=True, slots=True, eq=False)
class YamlDocument:
    """A parsed file: its name as given by the user, and its root."""

    file: str
    root: Node

    def problem(self, mark: Mark, message: str) -> Problem:
        """A problem at a position in this file."""
        return Problem(self.file, mark.line, mark.column, key_text(mark.path), message)


def key_text(path: KeyPath) -> str:
    """A key path as printed: ``rigs.demo.sinks[0].file``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(path: Path | str, *, advice: str = "") -> YamlDocument:
    """Reads one YAML file of at most 1 MiB, UTF-8, with one document whose root is a mapping.

    ``advice`` is appended to the message where the file is missing. Raises
    :class:`ConfigError` whose message starts with ``file:line:``.
    """
    file = str(path)
    return YamlDocument(file, parse_yaml(_read_text(Path(path), advice), file))


def _read_text(path: Path, advice: str) -> str:
    def fail(message: str, cause: Exception | None = None) -> NoReturn:
        raise ConfigError(problems=[Problem(str(path), 0, 0, "", message)]) from cause

    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        fail("there is no such file" + (f"; {advice}" if advice else ""), error)
    except IsADirectoryError as error:
        fail("is a folder, not a YAML file", error)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        fail(f"cannot be read: {getattr(error, 'strerror', None) or error}", error)
    if len(content) > MAX_BYTES:
        fail(f"is larger than {MAX_BYTES >> 20} MiB: not a configuration file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            problems=[Problem(str(path), line, 0, "", "is not UTF-8 text; save the file as UTF-8")]
        ) from error


def parse_yaml(text: str, file: str) -> Node:
    """The root mapping of YAML text; ``file`` is its name in errors."""
    return _Composer(text, file).root()


def core_scalar(text: str) -> Scalar:
    """A plain (unquoted) scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    return next((convert(text) for pattern, convert in _NUMBERS if pattern.fullmatch(text)), text)


class _Composer:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._anchors: dict[str, Node | None] = {}  # None while its value is unfinished
        self._events: Iterator[Event] = iter(())

    def root(self) -> Node:
        """The root; raises :class:`ConfigError` for anything that is not one plain mapping."""
        try:
            self._events = YAML(typ="safe", pure=True).parse(self._text)
            documents = [self._compose(next(self._events), (), 0) for e in self._events if self._starts(e)]
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            self._fail(line, column, self._explain(error, line), error)
        except ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._fail(line, 0, "has a control character, which YAML does not allow", error)
        except YAMLError as error:
            self._fail(0, 0, "is not YAML", error)
        if not documents or documents[0].value is None:
            self._fail(0, 0, "is empty")
        root = documents[0]
        if not isinstance(root.value, Mapping):
            self._fail(root.mark.line, root.mark.column, "should hold keys and values (key: value)")
        return root

    def _starts(self, event: Event) -> bool:
        if not isinstance(event, DocumentStartEvent):
            return False
        if self._anchors.get("---", event) is None:
            self._fail(event.start_mark.line + 1, 1, "a second document (---) starts here; only one is allowed")
        self._anchors = {"---": None}  # not a valid anchor name: marks that a document was seen
        return True

    def _compose(self, event: Event, path: KeyPath, depth: int) -> Node:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1, path)
        if isinstance(event, AliasEvent):
            return self._alias(event, mark)
        if not isinstance(event, NodeEvent):
            self._fail(mark.line, mark.column, "is not YAML")
        if getattr(event, "tag", None):
            self._fail(mark.line, mark.column, "tags (!...) are not used here; quote the text if it starts with '!'")
        if depth > MAX_DEPTH:
            self._fail(mark.line, mark.column, f"is nested deeper than {MAX_DEPTH} levels")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            plain = event.implicit[0] and event.style is None
            node = Node(core_scalar(event.value) if plain else event.value, mark)
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(mark, path, depth)
        elif isinstance(event, MappingStartEvent):
            node = self._mapping(mark, path, depth)
        else:
            self._fail(mark.line, mark.column, "is not YAML")
        if node.size > MAX_VALUES:
            self._fail(mark.line, mark.column, f"expands to more than {MAX_VALUES} values; use fewer aliases")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent, mark: Mark) -> Node:
        # The name is not printed: an unquoted secret that starts with '*' would be one.
        if event.anchor not in self._anchors:
            self._fail(
                mark.line, mark.column, "an alias (*name) without an anchor above it; quote text that starts with '*'"
            )
        node = self._anchors[event.anchor]
        if node is None:
            self._fail(mark.line, mark.column, "an alias (*name) inside its own value")
        return node

    def _sequence(self, mark: Mark, path: KeyPath, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._compose(event, (*path, len(items)), depth + 1))
        return Node(tuple(items), mark, size=1 + sum(item.size for item in items))

    def _mapping(self, mark: Mark, path: KeyPath, depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self._events), MappingEndEvent):
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            if not isinstance(event, ScalarEvent):
                hint = " (quote values that hold ${NAME})" if "${" in self._line(line) else ""
                self._fail(line, column, f"a key should be a scalar{hint}")
            key: str = event.value
            node = self._compose(next(self._events), (*path, key), depth + 1)
            if key == "<<" and event.style is None:
                merged += self._merge_sources(node, Mark(line, column))
                continue
            if key in values:
                first = keys[key].line
                self._fail(line, column, f"duplicate key: first on line {first}", path=(*path, key))
            values[key], keys[key] = node, Mark(line, column, (*path, key))
        for source in merged:  # explicit keys win, then the earlier source
            for key, node in source.mapping().items():
                if key not in values:
                    values[key], keys[key] = node, source.keys[key]
        return Node(values, mark, keys, 1 + sum(node.size for node in values.values()))

    def _merge_sources(self, node: Node, mark: Mark) -> list[Node]:
        sources = list(node.value) if isinstance(node.value, tuple) else [node]
        if not all(isinstance(source, Node) and isinstance(source.value, Mapping) for source in sources):
            self._fail(mark.line, mark.column, "<< takes a mapping (an alias of one), or a list of them")
        return sources

    def _line(self, line: int) -> str:
        lines = self._text.splitlines()
        return lines[line - 1] if 0 < line <= len(lines) else ""

    def _explain(self, error: MarkedYAMLError, line: int) -> str:
        """The parser's problem in plain words, never with text of the file."""
        problem, context = str(error.problem or error.context or ""), str(error.context or "")
        text = self._line(line)
        indentation = text[: len(text) - len(text.lstrip())]
        causes = (  # the first that holds
            ("'\\t'" in problem or "\t" in indentation, "a tab; indent with spaces"),
            ("tag" in problem, "tags (!...) are not used here; quote the text if it starts with '!'"),
            ("cannot start any token" in problem, "a value starts with a character that YAML reserves; quote the text"),
            ("${" in text, "is not YAML here; quote values that hold ${NAME}"),
            (
                "mapping values are not allowed" in problem,
                "a second ': ' in one value, or wrong indentation; quote text that holds ': '",
            ),
            ("flow" in context, "an unclosed bracket or brace, or a missing comma"),
            ("quoted scalar" in context, "an unclosed quotation mark"),
            ("block" in context, "is indented differently from the lines above it"),
        )
        detail = f" ({problem})" if "'" not in problem and problem else ""
        return next((message for holds, message in causes if holds), f"is not YAML here{detail}")

    def _fail(
        self, line: int, column: int, message: str, cause: Exception | None = None, *, path: KeyPath = ()
    ) -> NoReturn:
        raise ConfigError(problems=[Problem(self._file, line, column, key_text(path), message)]) from cause
