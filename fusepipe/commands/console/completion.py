"""Names that the shell completes: models, backends, precisions, rigs of the file. Nothing heavy is imported for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.core import ParameterSource

from fusepipe.core.models import BACKENDS, BUILDERS, MODELS, NETWORKS, PRECISIONS

Complete = Callable[[click.Context, click.Parameter, str], list[str]]

MODEL_NAMES = tuple(MODELS)
NETWORK_NAMES = tuple(name for name in MODELS if name in NETWORKS)
BACKEND_NAMES = ("auto", *BACKENDS)
BUILDER_NAMES = ("auto", *BUILDERS)


def listed(names: Iterable[str]) -> str:
    """``a, b or c``, for the help of an option."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def complete_names(names: Iterable[str]) -> Complete:
    """Completes one of these names."""
    known = tuple(names)
    return lambda ctx, param, incomplete: [name for name in known if name.startswith(incomplete)]


def complete_list(names: Iterable[str]) -> Complete:
    """Completes the last name of a list ``a,b,c``; a name that is in it is not offered again."""
    known = tuple(names)

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        left = [name for name in known if name not in before.split(",")]
        return [f"{before}{comma}{name}" for name in left if name.startswith(last)]

    return complete


def complete_rigs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Completes the rigs of the file that the command line names, else of ``rigs.yaml``; none of one with errors."""
    from fusepipe.core.errors import ConfigError
    from fusepipe.core.yaml_tree import read_yaml

    file = ctx.params.get("file")
    if file is None or ctx.get_parameter_source("file") is not ParameterSource.COMMANDLINE:
        # an argument is not parsed yet while the value of an option is being completed
        words = os.environ.get("COMP_WORDS", "").split()
        file = next((word for word in words if word.endswith((".yaml", ".yml"))), file or "rigs.yaml")
    try:
        rigs = read_yaml(Path(file)).root.child("rigs")
    except ConfigError:
        return []
    return [] if rigs is None else [name for name in rigs.mapping() if name.startswith(incomplete)]


def model_option(default: str = "stream") -> Callable[..., click.Command]:
    """``--model`` of any fusion model."""
    option: Callable[..., click.Command] = click.option(
        "--model",
        default=default,
        metavar="NAME",
        shell_complete=complete_names(MODEL_NAMES),
        help=f"The fusion model: {listed(MODEL_NAMES)}.",
    )
    return option


backend_option = click.option(
    "--backend",
    default="auto",
    metavar="NAME",
    shell_complete=complete_names(BACKEND_NAMES),
    help=f"What runs a network: {listed(BACKEND_NAMES)}.",
)
precision_option = click.option(
    "--precision",
    default="auto",
    metavar="NAME",
    shell_complete=complete_names(PRECISIONS),
    help=f"Its precision: {listed(PRECISIONS)}.",
)
