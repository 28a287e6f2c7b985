"""What the stages of a run remember of all images before: handed over to another run that continues the clip."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

StateValue = None | bool | int | float | str | NDArray[Any]
_PLAIN = "plain"  # the entry of the file that has all values but arrays


@dataclass(frozen=True, slots=True, eq=False)
class SceneState:
    """Values by name: numbers, texts, arrays of any shape, and ``None``."""

    values: Mapping[str, StateValue]

    def digest(self) -> str:
        """A hash, 32 hex digits: equal for states from which a run continues alike."""
        found = hashlib.blake2b(digest_size=16)
        for name in sorted(self.values):
            value = self.values[name]
            if isinstance(value, np.ndarray):
                found.update(f"{name} {value.dtype.str} {value.shape}".encode())
                found.update(np.ascontiguousarray(value).tobytes())
            else:
                found.update(f"{name} {json.dumps(value)}\n".encode())
        return found.hexdigest()

    def to_bytes(self) -> bytes:
        """A NumPy archive; :func:`scene_state` reads it."""
        arrays = {name: value for name, value in self.values.items() if isinstance(value, np.ndarray)}
        plain = json.dumps({name: value for name, value in self.values.items() if name not in arrays})
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **{_PLAIN: np.array(plain)}, **arrays)
        return content.getvalue()


def scene_state(content: bytes) -> SceneState:
    """The state that :meth:`SceneState.to_bytes` wrote. Raises ``ValueError`` for anything else."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            values: dict[str, StateValue] = {name: archive[name] for name in archive.files if name != _PLAIN}
            values |= json.loads(str(archive[_PLAIN]))
    except (OSError, KeyError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"is not the state of a run: {error!r}") from error
    return SceneState(values)


def of_stage(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one stage, named by it."""
    return {f"{stage}.{name}": value for name, value in values.items()}


def for_stage(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that :func:`of_stage` has named."""
    return {name.removeprefix(f"{stage}."): value for name, value in values.items() if name.startswith(f"{stage}.")}
