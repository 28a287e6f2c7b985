"""The command line: one group, one module per command, one line per error.

Nothing heavy is imported here or at the top of a command's module, so that ``--help`` is instant.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

import click

from fusepipe.commands.console.values import named_command, too_few_values
from fusepipe.core.errors import FusepipeError, Interrupted, UsageError, failure_document, message_lines
from fusepipe.core.redact import forget_known, remember
from fusepipe.core.signal_handlers import signal_handler
from fusepipe.core.suggest import closest
from fusepipe.core.version import __version__

# command -> (module in fusepipe.commands, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Run one, several or all rigs of a rigs.yaml."),
    "fuse": ("fuse", "Fuse two images, folders or videos."),
    "batch": ("batch", "Fuse the clips of a manifest, several at a time."),
    "calibrate": ("calibrate", "Calibrate a rig from a board or from the scene; check it."),
    "validate": ("validate", "Check a rigs.yaml; print its JSON schema."),
    "probe": ("probe", "Measure one or two live cameras: rate, jitter, clock."),
    "build-engine": ("build_engine", "Build an engine for this hardware and verify it."),
    "verify-engine": ("verify_engine", "Verify an engine on this machine."),
    "list-engines": ("list_engines", "List built engines and whether each can be used here."),
    "doctor": ("doctor", "Check this machine and this installation."),
    "hash-password": ("hash_password", "Hash a password of a user of the preview page."),
    "bench": ("bench", "Measure throughput and the cost of each stage."),
    "evaluate": ("evaluate", "Compute metrics of fused images."),
    "compare": ("compare", "Compare fusion methods on the same images."),
    "thermal": ("thermal", "Read and export temperatures of infrared recordings and images."),
    "data": ("data", "Download and arrange image data sets."),
    "train": ("train", "Train the networks of fusepipe."),
}


class CommandGroup(click.Group):
    """A group that imports the module of a command only when the command is used."""

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
        if args and not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = closest(args[0], COMMANDS)
            hint = f" Did you mean {close!r}?" if close else f" Commands: {', '.join(COMMANDS)}."
            raise click.UsageError(f"Unknown command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="fusepipe")
@click.option("--traceback", is_flag=True, help="Show the Python traceback of an error.")
def cli(traceback: bool) -> None:
    """Pair, register and fuse an infrared and a visible video stream.

    Exit codes: 0 success, 1 run-time failure, 2 usage or config, 3 source, 4 engine, 5 sink,
    130 interrupted (files are finalised).
    """


def fail(error: BaseException, code: int, *, as_json: bool, hint: str = "") -> int:
    """Prints the line of an error and, with ``--json``, its document; returns the exit code."""
    if as_json:
        click.echo(json.dumps(failure_document(code, [error]), indent=2))
    for text in message_lines(error):
        click.echo(f"fusepipe: error: {text}{hint}", err=True)
    return code


def main(argv: list[str] | None = None) -> None:
    """Entry point of the ``fusepipe`` command."""
    args = sys.argv[1:] if argv is None else argv
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # its errors are reported as ours, in one line each
    options = args[: args.index("--")] if "--" in args else args
    forget_known()
    remember(*args)
    as_json, traceback = "--json" in options, "--traceback" in options
    # --traceback is accepted anywhere, like --json
    args = [a for i, a in enumerate(args) if a != "--traceback" or i >= len(options)]
    try:
        # SIGTERM is the intended end of a `run`, which says so itself once there is something to end well
        ends = [signal.SIGINT] if args[:1] == ["run"] else [signal.SIGINT, signal.SIGTERM]
        with _noted_interrupts(ends) as interrupts:
            code = _main(args, interrupts, as_json=as_json, traceback=traceback)
        if sys.stdout is not None:  # closed by the caller: ">&-"
            sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as "| head" does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:  # standard output is on a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = fail(FusepipeError(f"standard output: {error.strerror}"), 1, as_json=False)
    if argv is None:  # this process ends, and nothing is gained by a search for cycles in all that was imported
        gc.freeze()
    sys.exit(code)


def _usage_failure(error: click.ClickException, args: Sequence[str], *, as_json: bool) -> int:
    """Prints a mistake in the arguments, or the help of a group without a command; returns the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else ""
    message = error.format_message()
    if isinstance(error, click.UsageError):
        command, found = named_command(cli, args)
        message = too_few_values(found, args) or message
    where = f" (see: {command} --help)" if command else ""
    return fail(UsageError(message), UsageError.exit_code, as_json=as_json, hint=where)


def _colours() -> bool | None:
    """``False`` with ``NO_COLOR`` (no-color.org), else ``None``: where standard output is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


@contextmanager
def _noted_interrupts(signals: Sequence[signal.Signals]) -> Iterator[Sequence[int]]:
    """What those of ``signals`` that arrive within the block are added to; they raise ``KeyboardInterrupt``.

    While classes are made, as in imports, Python and pydantic turn that into errors of their own. SIGTERM would end
    the process as it is, and leave its temporary files behind.
    """
    interrupts: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    usual = (signal.default_int_handler, signal.SIG_DFL)  # else ignored, or handled by a caller
    with signal_handler([number for number in signals if signal.getsignal(number) in usual], note):
        yield interrupts


def _main(args: list[str], interrupts: Sequence[int], *, as_json: bool, traceback: bool) -> int:
    try:
        result: Any = cli.main(
            args=args, prog_name="fusepipe", standalone_mode=False, obj=tuple(args), color=_colours()
        )
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _usage_failure(error, args, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return fail(Interrupted("interrupted"), Interrupted.exit_code, as_json=as_json)
    except FusepipeError as error:
        if traceback:
            raise
        return fail(error, error.exit_code, as_json=as_json)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ENOSPC) or traceback:  # of standard output: see main
            raise
        return fail(FusepipeError(f"{type(error).__name__}: {error}"), FusepipeError.exit_code, as_json=as_json)
    except Exception as error:  # a bug: also one line, with a hint
        if traceback and not interrupts:
            raise
        found = Interrupted("interrupted") if interrupts else FusepipeError(f"{type(error).__name__}: {error}")
        return fail(found, found.exit_code, as_json=as_json, hint="" if interrupts else " (--traceback shows where)")
