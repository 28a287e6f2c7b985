"""Options and parameter types shared by several commands."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click


def examples(*lines: str) -> str:
    """The epilog of a command's help: command lines as a user types them."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Print all figures of the run.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")

strict_option = click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 if under half of the possible pairs were fused.",
    show_default="a warning",
)
device_option = click.option(
    "--device", metavar="INDEX|UUID", help="The NVIDIA GPU, as nvidia-smi -L lists them.", show_default="the first one"
)


RadiometryOption = tuple[str, float, float] | None
"""Unit, gain and offset of counts, where they are given."""

range_option = click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LO HI",
    help="Infrared counts, or degrees of images in floating point, of black and white.",
)
agc_option = click.option(
    "--agc",
    type=click.Choice(["auto", "linear", "plateau", "local", "off"]),
    help="Gain control of infrared images, as in a run.",
    show_default="auto for more than 8 bits without --range",
)
radiometry_option = click.option(
    "--radiometry",
    type=(click.Choice(["celsius", "kelvin"]), float, float),
    metavar="UNIT GAIN OFFSET",
    help="What a count measures: gain * count + offset, celsius or kelvin.",
    show_default="what the file says",
)

_CROP = (click.IntRange(0, 65535), click.IntRange(0, 65535), click.IntRange(1, 65535), click.IntRange(1, 65535))


def reframing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for the part of each camera's image that is used; the command gets them as ``keys``, by camera."""

    @functools.wraps(command)
    def with_keys(**options: Any) -> Any:
        keys = {
            camera: {
                key: value
                for key in ("crop", "rotate", "flip")
                if (value := options.pop(f"{camera}_{key}")) is not None
            }
            for camera in ("infrared", "visible")
        }
        return command(keys=keys, **options)

    wrapped: Callable[..., Any] = with_keys
    for camera in ("visible", "infrared"):  # the help lists them in the reverse order
        for option in (
            click.option(
                f"--{camera}-flip",
                type=click.Choice(["horizontal", "vertical"]),
                help="Mirrors the rotated image.",
            ),
            click.option(
                f"--{camera}-rotate",
                type=click.Choice([0, 90, 180, 270]),
                help="Rotates the cropped image clockwise.",
            ),
            click.option(
                f"--{camera}-crop",
                type=_CROP,
                metavar="X Y W H",
                help=f"The part of the {camera} image that is used, in pixels.",
            ),
        ):
            wrapped = option(wrapped)
    return wrapped


def reframing_arguments(keys: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The arguments that give these ``keys`` to a command with :func:`reframing_options`."""
    return [
        word
        for camera, values in keys.items()
        for key, value in values.items()
        for word in (f"--{camera}-{key}", *(map(str, value) if isinstance(value, tuple) else [str(value)]))
    ]


class Duration(click.ParamType[float]):
    """``20ms``, ``10s``, ``5min``: seconds as a float. ``zero``: 0 is one too."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from fusepipe.core.units import parse_duration_ns

        try:
            duration_ns = parse_duration_ns(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if duration_ns < 0 or (duration_ns == 0 and not self._zero):
            self.fail(f"{value!r}: a duration must be positive", param, ctx)
        return duration_ns / 1e9


class SizeOption(click.ParamType[tuple[int, int]]):
    """``640x480``: width and height in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(value))
        if match is None:
            self.fail(f"{value!r}: write WIDTHxHEIGHT in pixels, such as 640x480", param, ctx)
        return int(match[1]), int(match[2])


class Length(click.ParamType[float]):
    """``30m``, ``40mm``: metres as a float."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from fusepipe.core.units import parse_length_m

        try:
            return parse_length_m(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class Names(click.ParamType[tuple[str, ...]]):
    """``a,b,c``: names in the given order, without surrounding spaces."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if not names:
            self.fail("name at least one", param, ctx)
        return names


def check_output_file(path: Path, overwrite: bool) -> None:
    """Checks that a file can be written, before minutes of work.

    Raises :class:`OutputExistsError` without ``overwrite``, :class:`SinkError` for a folder or a missing parent.
    """
    from fusepipe.core.errors import OutputExistsError, SinkError

    if path.is_dir():
        raise SinkError(f"{path}: is a folder; name a file, such as roof.calibration.yaml")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: already exists; use --overwrite to replace it")
    if not path.absolute().parent.is_dir():
        raise SinkError(f"{path}: its folder does not exist")


write_offset_option = click.option(
    "--write-offset",
    "rig_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a clear offset into this rig file as sync.offset; the file as it was is kept beside it.",
)
rig_name_option = click.option(
    "--rig-name", metavar="NAME", help="The rig of --write-offset.", show_default="the only one"
)


def check_rig_to_edit(rig_file: Path | None, rig_name: str | None) -> None:
    """Raises what stops ``--write-offset`` before anything has been measured."""
    from fusepipe.config.rig_offset import rig_to_edit

    if rig_name is not None and rig_file is None:
        raise click.UsageError("--rig-name is that of --write-offset: give it as well")
    if rig_file is not None:
        rig_to_edit(rig_file, rig_name)
