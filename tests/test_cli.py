"""The command line itself: groups without arguments, one-line descriptions."""

from __future__ import annotations

import pytest

from fusepipe.cli import main


@pytest.mark.parametrize("arguments", [[], ["calibrate"], ["data"], ["train"]], ids=" ".join)
def test_a_group_without_a_command_prints_its_help(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith(f"Usage: {' '.join(['fusepipe', *arguments])}")
    assert "\\n" not in err
    assert "\nCommands:\n" in err


@pytest.mark.parametrize("group", ["", "calibrate", "data"])
def test_the_description_of_a_command_is_not_cut(group: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*group.split(), "--help"])
    listed = capfd.readouterr().out.partition("Commands:\n")[2]
    assert [line for line in listed.splitlines() if line.endswith("...")] == []
