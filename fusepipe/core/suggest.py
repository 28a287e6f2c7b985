"""The nearest known name to a misspelt one, for messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like ``word``, case and ``-``/``_`` aside; ``None`` where none is similar."""
    by_folded = {_folded(name): name for name in known}
    close = get_close_matches(_folded(word), by_folded, n=1)
    return by_folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` with the closest known name, else ``known: x, y, z``."""
    names = list(known)
    close = closest(word, names)
    if close:
        return f"did you mean {close!r}?"
    return f"known: {', '.join(names)}" if names else "none is known here"


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")
