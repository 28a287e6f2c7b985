"""The nearest known name in messages."""

from __future__ import annotations

import pytest

from fusepipe.core.suggest import closest, did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "wanted"),
    [
        ("fuze", ["run", "fuse"], "fuse"),
        ("ssim", ["SSIM", "PSNR"], "SSIM"),
        ("build_engine", ["build-engine", "list-engines"], "build-engine"),
        ("xyz", ["run", "fuse"], None),
        ("run", [], None),
    ],
)
def test_the_closest_name(word: str, known: list[str], wanted: str | None) -> None:
    assert closest(word, known) == wanted


def test_the_words_of_a_message() -> None:
    assert did_you_mean("fuze", ["run", "fuse"]) == "did you mean 'fuse'?"
    assert did_you_mean("xyz", ["run", "fuse"]) == "known: run, fuse"
    assert did_you_mean("xyz", []) == "none is known here"
