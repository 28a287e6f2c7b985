"""Options, progress and widths that the commands which measure images share."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click


class Names(click.ParamType[tuple[str, ...]]):
    """``a,b,c``: names in the order given, spaces around them ignored."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if not names:
            self.fail("name at least one", param, ctx)
        return names


variant_option = click.option(
    "--variant",
    default="paper",
    show_default=True,
    help="Which definition where the community's codes disagree: paper, common or all.",
)
metrics_option = click.option("--metrics", type=Names(), metavar="A,B", help="These metrics instead of a variant's.")
jobs_option = click.option("--jobs", type=click.IntRange(1, 256), help="Processes that measure [one a core].")
report_option = click.option(
    "--report",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write .json, .csv (a line an image) or .html; may be repeated.",
)


def usable_jobs(jobs: int | None) -> int:
    """What was asked for, else one process a core that this process may use."""
    from fusepipe.core.machine import usable_cores

    return jobs or max(1, round(usable_cores()))


def table_width() -> int | None:
    """Columns of the terminal; ``None`` where the output goes to a file or another program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Progress:
    """A bar on standard error while it is a terminal; nothing else."""

    def __init__(self, what: str, *, enabled: bool) -> None:
        self._what = what
        self._bar: Any = None
        if enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int, what: str | None = None) -> None:
        """``done`` of ``total``; ``what`` replaces the text beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=what or self._what)
