"""The command line itself: groups without arguments, one-line descriptions."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def usage_error(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    return err.removeprefix("fusepipe: error: ")


@pytest.mark.parametrize("command", ["build-engine", "verify-engine"])
@pytest.mark.parametrize("after", [[], ["--device", "0"], ["--json"]], ids=" ".join)
def test_one_folder_for_two_says_what_is_expected_and_what_was_found(
    command: str, after: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The option that follows is not taken for the second folder."""
    for band in ("ir", "vis"):
        (tmp_path / band).mkdir()
    arguments = [command, *(["x.plan"] if command == "verify-engine" else []), "--images", str(tmp_path), *after]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capfd.readouterr().err == (
        f"fusepipe: error: --images takes 2 values, IR VIS, but only '{tmp_path}' was given; "
        f"write {tmp_path}/ir {tmp_path}/vis (see: fusepipe {command} --help)\n"
    )


def test_the_same_folder_twice_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    error = usage_error(["build-engine", "--images", str(tmp_path), f"{tmp_path}/"], capfd)
    assert "is given for both; name the folder of the infrared images and that of the visible ones" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fuse a b -o c --range 5", "--range takes 2 values, LO HI, but only '5' was given (see: fusepipe fuse"),
        ("fuse a b --range -5 -o c", "--range takes 2 values, LO HI, but only '-5' was given"),
        ("fuse a b -o c --range=5", "--range takes 2 values, LO HI, but only '5' was given"),
        ("fuse --infrared-crop -o c a b", "--infrared-crop takes 4 values, X Y W H, but none was given"),
        ("calibrate scene a b --mount 5m", "--mount takes 2 values, RIGHT DOWN, but only '5m' was given"),
        ("build-engine --shape 8x8 8x8 --fp16", "--shape takes 3 values, MIN OPT MAX, but only '8x8 8x8' was given"),
    ],
)
def test_too_few_values_of_an_option_are_named(arguments: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert message in usage_error(arguments.split(), capfd)
