"""The command line: one group, each command in its own module, errors in one line.

Nothing heavy is imported here or at the top of a command's module, so that ``--help`` is instant.
"""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from fusepipe import __version__
from fusepipe.errors import FusepipeError, Interrupted

# command -> (module in fusepipe.commands, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Run one, several or all rigs of a rigs.yaml."),
    "fuse": ("fuse", "Fuse two images, or two folders paired by stem."),
    "validate": ("validate", "Check a rigs.yaml; print its JSON schema."),
    "doctor": ("doctor", "Say what this machine can do and what is missing."),
    "bench": ("bench", "Measure throughput and each stage's share on this machine."),
    "train": ("train", "Train the networks that fusepipe ships."),
}


class CommandGroup(click.Group):
    """Lists the commands from a table and imports a command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"fusepipe.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusepipe")
@click.option("--traceback", is_flag=True, help="Show the Python traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:
    """Pair, register and fuse an infrared and a visible video stream.

    Exit codes: 0 done, 1 run-time failure, 2 usage or config, 3 source, 4 engine, 5 sink,
    130 interrupted (files are finalised).
    """
    ctx.obj = {"traceback": traceback}


def fail(message: str, code: int, kind: str, *, as_json: bool) -> None:
    """Prints the one line of an error (and, with ``--json``, the document that says it) and exits."""
    if as_json:
        click.echo(json.dumps({"ok": False, "error": {"type": kind, "message": message, "exit_code": code}}, indent=2))
    click.echo(f"fusepipe: error: {message}", err=True)
    sys.exit(code)


def main(argv: list[str] | None = None) -> None:
    """Entry point of the ``fusepipe`` command."""
    args = sys.argv[1:] if argv is None else argv
    as_json, traceback = "--json" in args, "--traceback" in args
    # --traceback is understood at any place, like --json
    args = [a for a in args if a != "--traceback"]
    try:
        result: Any = cli.main(args=args, prog_name="fusepipe", standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.UsageError as error:
        where = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        fail(error.format_message() + where, 2, "UsageError", as_json=as_json)
    except click.ClickException as error:
        fail(error.format_message(), 2, type(error).__name__, as_json=as_json)
    except click.Abort:
        fail("interrupted", Interrupted.exit_code, "Interrupted", as_json=as_json)
    except FusepipeError as error:
        if traceback:
            raise
        fail(str(error), error.exit_code, type(error).__name__, as_json=as_json)
