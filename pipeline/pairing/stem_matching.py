"""Partners of image files whose stems are not equal: ``001_ir`` and ``001_vis``, ``IR7`` and ``VIS7``. Pure.

A rule counts only where every key that it gives is unique within its folder, so that no image can have two partners.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

INFRARED_WORDS = frozenset(["ir", "infrared", "thermal", "therm", "tir", "lwir", "mwir", "swir", "nir", "flir", "t"])
VISIBLE_WORDS = frozenset(
    ["vis", "visible", "vi", "rgb", "eo", "tv", "color", "colour", "visual", "cam", "optical", "w", "z", "v"]
)
MIN_SHARE = 0.5  # of the smaller folder: fewer partners are a coincidence

_PARTS = re.compile(r"[^\W\d_]+|\d+", re.UNICODE)

Keys = Mapping[str, Hashable]


@dataclass(frozen=True, slots=True)
class StemMatch:
    """``partners`` by infrared stem; ``rule`` says by what they were found, for a message."""

    partners: Mapping[str, str]
    rule: str

    def __str__(self) -> str:
        infrared, visible = next(iter(self.partners.items()))
        return f"paired by {self.rule}: {infrared} with {visible}"


def match_stems(infrared: Sequence[str], visible: Sequence[str], *, words_only: bool = False) -> StemMatch | None:
    """The partners of two folders' stems by the first rule that gives at least half of the smaller folder one.

    Rules: equal but for a word that names the camera; equal but for what all stems of a folder begin and end with; the
    same last number. ``words_only``: the first rule alone.
    """
    rules: list[tuple[str, Callable[[Sequence[str], frozenset[str]], Keys]]] = [
        ("their names without the words for the camera", _without_words)
    ]
    if not words_only:
        rules += [
            ("what differs within each folder's names", lambda stems, _: _without_common_ends(stems)),
            ("the last number in their names", lambda stems, _: _last_numbers(stems)),
        ]
    for rule, keys_of in rules:
        partners = _partners(keys_of(infrared, INFRARED_WORDS), keys_of(visible, VISIBLE_WORDS))
        if partners and len(partners) >= MIN_SHARE * min(len(infrared), len(visible)):
            return StemMatch(partners, rule)
    return None


def _partners(infrared: Keys, visible: Keys) -> dict[str, str]:
    if not (_unique(infrared) and _unique(visible)):
        return {}
    by_key = {key: stem for stem, key in visible.items()}
    return {stem: by_key[key] for stem, key in infrared.items() if key in by_key}


def _unique(keys: Keys) -> bool:
    return max(Counter(keys.values()).values(), default=0) == 1


def _without_words(stems: Sequence[str], words: frozenset[str]) -> Keys:
    """The letters and digits of a stem in order, without the one word of ``words``; stems without one are left out."""
    keys: dict[str, Hashable] = {}
    for stem in stems:
        parts = [part.lower() for part in _PARTS.findall(stem)]
        found = [index for index, part in enumerate(parts) if part in words]
        if found:
            keys[stem] = tuple(parts[: found[-1]] + parts[found[-1] + 1 :])
    return keys


def _without_common_ends(stems: Sequence[str]) -> Keys:
    """What is left of each stem without the beginning and the end that all have; numbers stay whole."""
    if len(stems) < 2:
        return {}
    begin = re.sub(r"\d+$", "", _common_beginning(stems))
    rest = [stem[len(begin) :] for stem in stems]
    end = re.sub(r"^\d+", "", _common_beginning([text[::-1] for text in rest])[::-1])
    return {stem: text[: len(text) - len(end)] for stem, text in zip(stems, rest, strict=True)}


def _last_numbers(stems: Sequence[str]) -> Keys:
    numbers = {stem: re.findall(r"\d+", stem) for stem in stems}
    return {stem: int(found[-1]) for stem, found in numbers.items() if found}


def _common_beginning(texts: Sequence[str]) -> str:
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in same)
