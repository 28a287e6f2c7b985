"""Options and parameter types that several commands share."""

from __future__ import annotations

import re
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")


class Duration(click.ParamType[float]):
    """``20ms``, ``10s``, ``5min``: seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from fusepipe.core.units import parse_duration_ns

        try:
            duration_ns = parse_duration_ns(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if duration_ns <= 0:
            self.fail(f"{value!r}: a duration is positive", param, ctx)
        return duration_ns / 1e9


class Size(click.ParamType[tuple[int, int]]):
    """``640x480``: width and height in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(value))
        if match is None:
            self.fail(f"{value!r}: write WIDTHxHEIGHT in pixels, such as 640x480", param, ctx)
        return int(match[1]), int(match[2])
