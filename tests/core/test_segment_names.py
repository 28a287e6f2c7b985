"""Names of segments: generated from a pattern and the time, and matched against it."""

import time
from itertools import islice
from pathlib import Path

from fusepipe.core.segment_names import SegmentNames

S = 1_000_000_000


def test_names_have_the_time_and_then_a_number():
    names = SegmentNames("/rec/100%%/%Y-%m-%d/%H-%M-%S.mkv", utc=True)
    first = list(islice(names.paths(1_700_000_000 * S), 3))
    assert [str(p) for p in first] == [
        "/rec/100%/2023-11-14/22-13-20.mkv",
        "/rec/100%/2023-11-14/22-13-20.2.mkv",
        "/rec/100%/2023-11-14/22-13-20.3.mkv",
    ]
    assert names.folder == Path("/rec/100%")
    assert all(names.matches(path) for path in first)


def test_names_are_of_this_machine_unless_they_are_utc(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert next(SegmentNames("/%H-%M.mkv").paths(0)).name == "05-30.mkv"
        assert next(SegmentNames("/%H-%M.mkv", utc=True).paths(0)).name == "00-00.mkv"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_only_what_the_pattern_can_have_made_is_its_own():
    names = SegmentNames("/rec/%Y/roof_%d-%H.mkv")
    for mine in ("2026/roof_01-02.mkv", "2026/roof_01-02.partial.mkv", "2026/roof_01-02.7.jsonl"):
        assert names.matches(Path("/rec") / mine), mine
    for other in (
        "2026/roof_01-02.mp4",
        "2026/roof_01-02.mkv.bak",
        "2026/my_roof_01-02.mkv",
        "2026/roof_1-02.mkv",
        "2026/roof_01-02.0.mkv",
        "2026/roof_01-02-cut.mkv",
        "roof_01-02.mkv",
        "2026/x/roof_01-02.mkv",
        "../2026/roof_01-02.mkv",
    ):
        assert not names.matches(Path("/rec") / other), other
