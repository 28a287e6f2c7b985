"""The error tree of fusepipe. Every error that reaches a user is one of these.

::

    FusepipeError                exit 1   run-time failure
    ├── UsageError               exit 2   a wrong argument or option
    │   └── ConfigError          exit 2   a wrong key or value in a YAML file (file, line, key path)
    ├── SourceError              exit 3   an input cannot be opened, read or paired
    ├── EngineError              exit 4   a model or engine cannot be found, built or run
    ├── SinkError                exit 5   an output cannot be written
    │   ├── OutputExistsError    exit 5   an output already exists and --overwrite was not given
    │   ├── SinkSetupError       exit 5   an output is set up wrongly; retrying does not help
    │   └── DiskFullError        exit 5   the disk of an output is full
    └── Interrupted              exit 130 SIGINT, and SIGTERM except for `run`; files were finalised

The message is one line that names the value and the fix. The command line prints that line and
exits with ``exit_code``; ``--traceback`` shows the chain of causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusepipe.core.redact import hide_known


class FusepipeError(Exception):
    """Root of the tree; itself a run-time failure."""

    exit_code = 1


class UsageError(FusepipeError):
    """An invalid argument or option."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a configuration: its place, its key, and a message that names the fix.

    ``line`` and ``column`` count from 1; 0 means unknown (a rig built in Python).
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
    """Invalid keys or values in a configuration.

    ``problems`` has all of them, so that a user can fix a file in one go; the message has one line for each, which
    starts with ``file:line: key.path:``.
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
    """The output already exists and overwriting was not requested."""


class SinkSetupError(SinkError):
    """The output is set up wrongly; retrying does not help."""


class DiskFullError(SinkError):
    """The disk of the output is full."""


class Interrupted(FusepipeError):  # noqa: N818 - named for what happened
    """SIGINT or SIGTERM ended the run; all files were finalised."""

    exit_code = 130


def printable(text: str) -> str:
    """The text on one line, with line breaks and control characters escaped.

    File names can contain anything; a message must not look like two, or change the colours of the terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def message_lines(error: BaseException) -> list[str]:
    """The printable lines of an error's message: one for each problem of a :class:`ConfigError`, else one.

    Secrets of the URLs that this process was given are hidden, also in the messages of libraries.
    """
    text = str(error) or type(error).__name__
    parts = text.split("\n") if isinstance(error, ConfigError) and error.problems else [text]
    return [printable(hide_known(part)) for part in parts]


def failure_document(code: int, errors: Sequence[BaseException]) -> dict[str, Any]:
    """The keys ``ok``, ``exit_code`` and ``errors`` of every command's ``--json`` document."""
    listed = [
        {"type": type(e).__name__, "message": hide_known(str(e)), "exit_code": getattr(e, "exit_code", code)}
        for e in errors
    ]
    return {"ok": code == 0, "exit_code": code, "errors": listed}
