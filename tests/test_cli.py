"""The command line itself: groups without arguments, one-line descriptions."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from fusepipe.cli import cli, main


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands with their names, such as ("calibrate", "board"); groups before their members."""

    def below(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            yield (*path, name), found
            if isinstance(found, click.Group):
                yield from below(found, (*path, name))

    return below(cli, ())


LEAVES = {" ".join(path): found for path, found in commands() if not isinstance(found, click.Group)}


INTERRUPTED_IMPORT = """
import os, signal, time
from fusepipe import cli

def import_module(name):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        raise RuntimeError("Error calling __set_name__ on '_segments' in 'FileSink'") from None

cli.import_module = import_module
cli.main(["run"])
"""


def test_an_interrupt_that_an_import_turned_into_another_error_is_one() -> None:
    """As Python 3.11 and pydantic do while a class is made."""
    command = [sys.executable, "-c", INTERRUPTED_IMPORT]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (130, "fusepipe: error: interrupted\n")


@pytest.mark.parametrize("arguments", [[], ["calibrate"], ["data"], ["thermal"], ["train"]], ids=" ".join)
def test_a_group_without_a_command_prints_its_help(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith(f"Usage: {' '.join(['fusepipe', *arguments])}")
    assert "\\n" not in err
    assert "\nCommands:\n" in err


@pytest.mark.parametrize(
    "group", ["", *(" ".join(path) for path, found in commands() if isinstance(found, click.Group))]
)
def test_the_description_of_a_command_is_not_cut(group: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*group.split(), "--help"])
    listed = capfd.readouterr().out.partition("Commands:\n")[2]
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


def shown_help(name: str, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    return capfd.readouterr().out


@pytest.mark.parametrize("name", LEAVES)
def test_the_help_of_a_command_has_examples_that_parse(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [line.strip() for line in shown_help(name, capfd).partition("Examples:\n")[2].splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert line.startswith(f"fusepipe {name}"), line
        given = shlex.split(line.partition(" > ")[0])[1 + len(name.split()) :]
        LEAVES[name].make_context(name, given)  # raises for unknown options, wrong values and missing arguments


@pytest.mark.parametrize("name", LEAVES)
def test_defaults_are_in_one_style_and_choices_are_listed(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    help_text = " ".join(shown_help(name, capfd).split())
    for option in (one for one in LEAVES[name].params if isinstance(one, click.Option)):
        written = option.help or ""
        assert not re.search(r"\[[^\]]*\]\.?$|default:", written), f"{option.name}: set the default, or show_default"
        if option.default not in (None, (), False) and not option.is_flag and isinstance(option.default, str | int):
            assert f"[default: {option.default}" in help_text or f"; default: {option.default}" in help_text, (
                option.name
            )
        if "..." in written:
            raise AssertionError(f"{option.name}: {written}: list all choices")


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_says_what_it_is(name: str) -> None:
    options = [option for option in LEAVES[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.hidden and not option.help] == []
