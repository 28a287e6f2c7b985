"""Inputs through PyAV 18 and 19 alike: what the two versions name and return differently is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Protocol

import av
from av.container import InputContainer

# Titles may be damaged, or in another encoding than UTF-8, and must not make a file unreadable. PyAV 19 has no argument
# for that: it always reads them so.
_ANY_METADATA: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if hasattr(InputContainer, "metadata_errors") else {}
)


class _Rational(Protocol):
    """``Fraction`` of PyAV 18, ``AVRational`` of PyAV 19."""

    @property
    def numerator(self) -> int: ...

    @property
    def denominator(self) -> int: ...


def open_input(
    file: str,
    *,
    options: Mapping[str, str],
    format: str | None = None,
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """Opens a file or URL with FFmpeg's ``options``; bytes of metadata that are not UTF-8 become surrogates.

    ``format`` is FFmpeg's name of the format (``None``: detected), ``timeout`` the limits of opening and of each read
    in seconds (``None``: none). Raises what ``av.open`` does: ``av.FFmpegError``, ``OSError``, and ``ValueError`` for
    a format that this FFmpeg does not have.
    """
    opened: InputContainer = av.open(file, "r", format=format, options=dict(options), timeout=timeout, **_ANY_METADATA)
    return opened


def exact(value: _Rational | None) -> Fraction | None:
    """A time base, rate or aspect ratio of PyAV; ``None`` where FFmpeg does not know it (a zero or a denominator of 0).

    PyAV 18 returns ``None`` for those, PyAV 19 an ``AVRational`` that is false; its products with another one are
    rounded to 32 bits, so that arithmetic has to be done with fractions.
    """
    if value is None or not value.numerator or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)
