"""The error tree of fusepipe. Every error a user can cause or meet is one of these.

::

    FusepipeError                exit 1   run-time failure
    ├── UsageError               exit 2   a wrong argument or option
    │   └── ConfigError          exit 2   a wrong key or value in a YAML file (file, line, key path)
    ├── SourceError              exit 3   an input cannot be opened, read or paired
    ├── EngineError              exit 4   a model or engine cannot be found, built or run
    ├── SinkError                exit 5   an output cannot be written
    │   ├── OutputExistsError    exit 5   an output is there already and --overwrite was not given
    │   ├── SinkSetupError       exit 5   an output that cannot work as it is set up: trying again is no use
    │   └── DiskFullError        exit 5   no space is left where an output is written
    └── Interrupted              exit 130 SIGINT or SIGTERM; files were finalised

The message is one line that names the value and the fix. The command line prints that line and
exits with ``exit_code``; ``--traceback`` shows the chain of causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class FusepipeError(Exception):
    """Root of the tree; a failure while running."""

    exit_code = 1


class UsageError(FusepipeError):
    """An argument or option that cannot be used as given."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration: where, which key, what and how to fix it.

    ``line`` and ``column`` count from 1; 0 means unknown (a rig that was built in Python).
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file and self.line else self.file
        return ": ".join(part for part in (where, self.key, self.message) if part)


class ConfigError(UsageError):
    """Keys or values of a configuration; each line of the message starts with ``file:line: key.path:``.

    ``problems`` has all that is wrong, so that a user fixes a file in one go; the message lists them
    one a line.
    """

    def __init__(self, message: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message or "\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SourceError(FusepipeError):
    """An input cannot be opened, read or paired."""

    exit_code = 3


class EngineError(FusepipeError):
    """A model or an engine cannot be found, built or run."""

    exit_code = 4


class SinkError(FusepipeError):
    """An output cannot be written."""

    exit_code = 5


class OutputExistsError(SinkError):
    """The output exists and overwriting was not asked for."""


class SinkSetupError(SinkError):
    """An output that cannot work as it is set up; trying again does not help."""


class DiskFullError(SinkError):
    """No space is left where an output is written."""


class Interrupted(FusepipeError):  # noqa: N818 - named for what happened
    """SIGINT or SIGTERM ended the run; every file was finalised."""

    exit_code = 130


def printable(text: str) -> str:
    """One line that a terminal can show as it is: line breaks and control characters become escapes.

    File names may hold anything; a message must not be able to pass for two, or to colour the terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def message_lines(error: BaseException) -> list[str]:
    """An error's message, one printable line a problem: only a :class:`ConfigError` has several."""
    text = str(error) or type(error).__name__
    parts = text.split("\n") if isinstance(error, ConfigError) and error.problems else [text]
    return [printable(part) for part in parts]


def failure_document(code: int, errors: Sequence[BaseException]) -> dict[str, Any]:
    """The keys ``ok``, ``exit_code`` and ``errors`` of every command's ``--json`` document."""
    listed = [{"type": type(e).__name__, "message": str(e), "exit_code": getattr(e, "exit_code", code)} for e in errors]
    return {"ok": code == 0, "exit_code": code, "errors": listed}
