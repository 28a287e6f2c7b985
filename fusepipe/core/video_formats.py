"""The video files that fusepipe writes: the container of each suffix, its codecs, and what is not a folder's name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

ENCODERS = {"h264": "libx264", "ffv1": "ffv1", "vp9": "libvpx-vp9"}
"""FFmpeg's encoder of each codec."""

DecoderName = Literal["auto", "nvdec", "software"]
"""How video is decoded: in hardware where that works, by a named kind of hardware, or in software."""

EncoderName = Literal["auto", "x264", "nvenc", "qsv"]
"""How H.264 is encoded: in hardware where that works, in software, or by a named kind of hardware."""

_FILE_SUFFIX = re.compile(r"\.(?:[A-Za-z][A-Za-z0-9]{1,4}|3gp|3g2|3gpp)")
# also misspelt URLs: a folder must not be named after a password
_URL = re.compile(
    r"\s*(?:[A-Za-z][A-Za-z0-9+.-]+\s*:/|(?:rtsps?|rtmp|srt|udp|https?)(?:\+push)?\s*(?::|//))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """A container. ``muxer`` is FFmpeg's name; ``codecs`` are those it takes, the default first.

    ``timestamps`` is false for AVI, which has a frame rate only.
    """

    muxer: str
    codecs: tuple[str, ...]
    timestamps: bool = True


VIDEO_FORMATS = {
    ".mkv": VideoFormat("matroska", ("h264", "ffv1", "vp9")),
    ".mp4": VideoFormat("mp4", ("h264",)),
    ".mov": VideoFormat("mov", ("h264",)),
    ".avi": VideoFormat("avi", ("h264",), timestamps=False),
    ".webm": VideoFormat("webm", ("vp9",)),
}
VIDEO_SUFFIXES = tuple(VIDEO_FORMATS)


def video_format(path: PurePath | str) -> VideoFormat | None:
    """The format of a file name by its suffix, upper or lower case; ``None`` where fusepipe does not write it."""
    return VIDEO_FORMATS.get(PurePath(path).suffix.lower())


def alternatives(names: Iterable[str]) -> str:
    """``.a, .b or .c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def output_name_problem(name: str) -> str:
    """Why a name can be neither that of an output file nor of a folder, with the fix; empty where it can."""
    if name == "-":
        return "standard output is not supported; name a file or a folder"
    if _URL.match(name):
        return "is a URL; an output is a file or a folder"
    path = PurePath(name)
    if path.name.strip().lower() in (*VIDEO_FORMATS, ".3gp", ".3g2") and not name.endswith("/"):
        return f"is only a suffix; write a name before it, such as fused{path.name.strip()}"
    if path.name != path.name.rstrip() and _FILE_SUFFIX.fullmatch(path.suffix.rstrip()):
        return "ends in a space; remove it"
    return ""


def folder_name_problem(name: str) -> str:
    """Why the name of an output folder looks like something else, with the fix; empty where it does not.

    ``out.gif`` is meant as a file, ``-`` as standard output. A slash at the end makes any name a folder.
    """
    if problem := output_name_problem(name):
        return problem
    suffix = PurePath(name).suffix
    if name.endswith("/") or not _FILE_SUFFIX.fullmatch(suffix):
        return ""
    if suffix.lower() in VIDEO_FORMATS:
        return "is the name of a video, not of a folder of images"
    return (
        f"{suffix} files are not written here; name a video ({alternatives(VIDEO_SUFFIXES)}) or a folder (a name with "
        "a dot must end in /)"
    )
