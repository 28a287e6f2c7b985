"""Fixtures of the tests of rigs."""

import pytest

from fusepipe.cli import main


@pytest.fixture
def fuse(capsys):
    """Calls the command; gives exit code, standard output, standard error."""

    def call(*args):
        with pytest.raises(SystemExit) as stopped:
            main(["fuse", *map(str, args)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call
