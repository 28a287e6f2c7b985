"""Options of the commands that compute metrics: which metrics, in how many processes, and the reports to write."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from fusepipe.commands.console.options import Names, agc_option, json_option, overwrite_option, range_option

_OPTIONS = (
    click.option(
        "--variant",
        default="paper",
        help="Definition of metrics that differ between papers and published code: paper, common or all.",
    ),
    click.option("--metrics", type=Names(), metavar="A,B", help="These metrics instead of a variant's."),
    click.option("--jobs", type=click.IntRange(1, 256), help="Processes that measure.", show_default="one per core"),
    click.option(
        "--report",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write .json, .csv (one line per image) or .html; may be repeated.",
    ),
    overwrite_option,
    json_option,
)


@dataclass(frozen=True, slots=True)
class Scoring:
    """The values of the options."""

    variant: str
    metrics: tuple[str, ...] | None
    jobs: int | None
    report: tuple[Path, ...]
    overwrite: bool
    as_json: bool

    @property
    def processes(self) -> int:
        """``jobs``, else one process per core available to this process."""
        from fusepipe.core.machine import usable_cores

        return self.jobs or max(1, round(usable_cores()))


def infrared_options(function: Callable[..., None]) -> Any:
    """Adds how infrared images of more than 8 bits are mapped; its function gets the keys as ``infrared_keys``."""

    @functools.wraps(function)
    def with_keys(*, agc: str | None, value_range: tuple[float, float] | None, **options: Any) -> None:
        given = {"agc": agc, "range": value_range}
        function(infrared_keys={key: value for key, value in given.items() if value is not None}, **options)

    return range_option(agc_option(with_keys))


def scoring_options(function: Callable[..., None]) -> Any:
    """Adds the options to a command; its function gets them as ``scoring``, a :class:`Scoring`."""

    @functools.wraps(function)
    def with_scoring(**options: Any) -> None:
        scoring = Scoring(**{field.name: options.pop(field.name) for field in fields(Scoring)})
        function(scoring=scoring, **options)

    command: Any = with_scoring
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
