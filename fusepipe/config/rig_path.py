"""Whether a rig file exists: found before the models of its keys are built, which takes longer than the answer."""

from __future__ import annotations

from pathlib import Path

from fusepipe.core.errors import ConfigError, Problem

ADVICE = "'fusepipe validate --schema' describes the format, and docs/rigs of the project has examples"


def require_rig_file(path: Path) -> None:
    """Raises :class:`ConfigError` where there is nothing at ``path``; all else is found when the file is read."""
    try:
        path.stat()
    except FileNotFoundError as error:
        problem = Problem(str(path), 0, 0, "", f"there is no such file; {ADVICE}")
        raise ConfigError(problems=[problem]) from error
    except OSError:  # reported by whoever reads the file
        return
