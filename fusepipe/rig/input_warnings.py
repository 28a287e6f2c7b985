"""Warnings about inputs that are probably not what the user meant: exchanged, the same twice, in false colours.

They are conservative: a grey infrared image never causes a warning about colours.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.base import HasIdentity, ReadsFiles, Source, SourceInfo


def input_warnings(
    sources: tuple[Source, Source], infrared: SourceInfo, visible: SourceInfo, *, same_part: bool = True
) -> Iterator[str]:
    """One line for each warning, with what to do; ``sources`` are the infrared and the visible one, opened.

    ``same_part``: both use the same part of their images.
    """
    if same_part and _are_same(*sources):
        yield (
            f"infrared and visible are the same: {sources[0].label}; give one input of each camera, or, for two video "
            "tracks of one file, select one for each with ?stream=1; of two panels in one image, crop each"
        )
        return
    if infrared.colour == "grey":
        return
    if infrared.colour == "natural" and visible.known and visible.colour != "natural":
        yield (
            f"the infrared input {sources[0].label} is in colour and the visible one is not: they seem to be "
            "exchanged; exchange the two (fusepipe fuse has --swap)"
        )
    elif infrared.colour == "false":
        yield (
            f"{Band.INFRARED}: {sources[0].label} is in false colours, in which hot can be darker than cold; record it "
            "with the palette white-hot (grey)"
        )
    else:
        yield (
            f"{Band.INFRARED}: {sources[0].label} is in colour; if it is a thermal camera, select its palette "
            "white-hot (grey), else check that it is the infrared input"
        )


def _are_same(infrared: Source, visible: Source) -> bool:
    if isinstance(infrared, HasIdentity) and isinstance(visible, HasIdentity) and infrared.identity != visible.identity:
        return False
    if not (isinstance(infrared, ReadsFiles) and isinstance(visible, ReadsFiles)):
        return infrared.label == visible.label and not infrared.label.startswith("synthetic:")
    pairs = list(zip(infrared.files, visible.files, strict=False))
    return bool(pairs) and len(infrared.files) == len(visible.files) and all(_same_file(*p) for p in pairs[:3])


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) or filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False  # reported when it is read
