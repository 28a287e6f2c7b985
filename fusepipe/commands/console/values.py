"""Options of several values, such as ``--images IR VIS``: what is missing where too few were given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from fusepipe.core.text import counted


def named_command(root: click.Command, words: Sequence[str]) -> tuple[str, click.Command]:
    """The command that a command line names, with its path (``fusepipe calibrate scene``).

    click's own errors about the number of values do not have it.
    """
    path, command = "fusepipe", root
    for word in words:
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found is None:
            break
        path, command = f"{path} {word}", found
    return path, command


def too_few_values(command: click.Command, words: Sequence[str]) -> str:
    """What the first option with too few values expects and what was found instead; empty if none has too few.

    ``words`` are the arguments of the command line. click takes an option that follows for a missing value, and
    then reports something else, such as that option's own value.
    """
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    several = {name: option for option in command.params if option.nargs > 1 for name in option.opts}
    for position, word in enumerate(words):
        name, assigned, value = word.partition("=")
        option = several.get(name)
        if option is None or not name.startswith("-"):
            continue
        after = words[position + 1 : position + 1 + option.nargs]
        given = [value] * bool(assigned) + list(takewhile(lambda word: word.partition("=")[0] not in names, after))
        if len(given) < option.nargs:
            metavar = option.metavar or name
            found = f"only {' '.join(given)!r} was given" if given else "none was given"
            return f"{name} takes {counted(option.nargs, 'value')}, {metavar}, but {found}{_inside(metavar, given)}"
    return ""


def _inside(metavar: str, given: Sequence[str]) -> str:
    """The folders ``ir`` and ``vis`` within the one folder that was given for ``IR VIS``."""
    pair = [Path(given[0], band) for band in ("ir", "vis")] if metavar == "IR VIS" and given else []
    return f"; write {pair[0]} {pair[1]}" if pair and all(folder.is_dir() for folder in pair) else ""


def two_folders(
    context: click.Context, parameter: click.Parameter, folders: tuple[Path, Path] | None
) -> tuple[Path, Path] | None:
    """Callback of ``--images``: an option is not taken for a folder, nor one folder for both bands."""
    if folders is None:
        return None
    words: Any = context.find_root().obj or ()
    if problem := too_few_values(context.command, words):
        raise click.UsageError(problem, context)
    if folders[0].is_dir() and folders[1].is_dir() and folders[0].samefile(folders[1]):
        raise click.BadParameter(
            f"{folders[0]} is given for both; name the folder of the infrared images and that of the visible ones",
            context,
            parameter,
        )
    return folders
