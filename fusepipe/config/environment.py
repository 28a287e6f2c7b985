"""Substitutes environment variables in the strings of a rig: ``${NAME}``, ``${NAME:-default}``, ``$${``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fusepipe.core.errors import Problem
from fusepipe.core.yaml_tree import Mark, Node, YamlDocument

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_USE = re.compile(rf"\$\$\{{|\$\{{(?:(?P<name>{_NAME})(?::-(?P<default>(?:(?!\$\{{)[^}}])*))?\}})?")


class Substitution:
    """Data of YAML nodes with variables substituted, and the problems found.

    ``unset`` lists variables that are not set, ``malformed`` invalid uses of ``${``. A problem names the variable and
    never its value.
    """

    def __init__(self, document: YamlDocument, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self.unset: list[Problem] = []
        self.malformed: list[Problem] = []

    def data(self, node: Node, mark: Mark | None = None) -> Any:
        """The plain data of a node; ``mark`` is the position of its key."""
        if isinstance(node.value, Mapping):
            return {key: self.data(child, node.keys[key]) for key, child in node.value.items()}
        if isinstance(node.value, tuple):
            return [self.data(item, item.mark) for item in node.value]
        if isinstance(node.value, str) and "${" in node.value:
            return self._text(node.value, mark or node.mark)
        return node.value

    def _text(self, text: str, mark: Mark) -> str:
        def replace(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            name, default = match["name"], match["default"]
            if name is None:
                message = "has a ${ that is neither ${NAME} nor ${NAME:-default}; write a literal ${ as $${"
                self.malformed.append(self._document.problem(mark, message))
                return match[0]
            value = self._environ.get(name)
            if default is not None:
                return value or default
            if value is None:
                message = f"needs the environment variable {name}, which is not set"
                self.unset.append(self._document.problem(mark, message))
                return match[0]
            return value

        return _USE.sub(replace, text)
