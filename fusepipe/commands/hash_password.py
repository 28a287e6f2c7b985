"""``fusepipe hash-password``: the hash of a password, for a user of the preview page."""

from __future__ import annotations

import json
import sys

import click

from fusepipe.commands.console.options import examples, json_option
from fusepipe.core.errors import UsageError


@click.command(
    "hash-password",
    epilog=examples(
        "fusepipe hash-password",
    ),
)
@click.argument("source", nargs=-1, metavar="[-]")
@json_option
def command(source: tuple[str, ...], as_json: bool) -> None:
    """Print the hash of a password, as the line for a user in rigs.yaml.

    Asks for the password twice; with - it is one line of standard input. It is never an argument: other users of
    this machine could see it there.
    """
    from fusepipe.core.passwords import hash_password

    if source not in ((), ("-",)):  # which is not repeated
        raise UsageError("a password is no argument, where others can see it: leave it out to be asked for it")
    try:
        hashed = str(hash_password(_from_input() if source else _asked()))
    except ValueError as error:
        raise UsageError(str(error)) from error
    click.echo(json.dumps({"ok": True, "password_hash": hashed}) if as_json else f'password_hash: "{hashed}"')


def _asked() -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password; with - it is read from standard input")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    return password


def _from_input() -> str:
    data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("standard input is not UTF-8 text") from None
    if not text or "\n" in text:
        raise UsageError("standard input has to be one line, the password")
    return text
