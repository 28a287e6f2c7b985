"""The keys of a camera, video file or image folder."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from fusepipe.config.base import ConfigModel, NotBool, ValueInterval
from fusepipe.config.gain import AgcSection
from fusepipe.config.locations import (
    LIVE_SCHEMES,
    SCHEMES,
    LocationKind,
    authority_problem,
    check_text,
    input_kind,
    is_device,
    scheme_of,
)
from fusepipe.config.repair import RepairConfig
from fusepipe.config.telemetry_keys import TelemetrySection
from fusepipe.core.redact import HIDDEN, redact_url, remember, unescaped_problem
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.units import DurationNs, PositiveDurationNs, S
from fusepipe.core.video_formats import DecoderName
from fusepipe.core.yaml_models import field_keys

_ALMOST_URL = re.compile(rf"\s*(?P<scheme>{'|'.join(LIVE_SCHEMES)})(?:\s*:|//|\s+://)", re.IGNORECASE)


def _source_url(value: str) -> str:
    remember(value)
    scheme = scheme_of(check_text(value))
    if not scheme and (meant := _ALMOST_URL.match(value)):
        raise ValueError(f"is not a valid URL: write {meant['scheme'].lower()}:// without spaces before it")
    if scheme in LIVE_SCHEMES and (problem := unescaped_problem(value) or authority_problem(value)):
        raise ValueError(problem)
    if scheme and scheme not in SCHEMES:
        raise ValueError(f"has an unknown URL scheme {scheme}:// ({did_you_mean(scheme, SCHEMES)})")
    if scheme == "file" and not value[len("file://") :].startswith("/"):
        raise ValueError("should be file:///PATH with three slashes, or the path alone")
    return value


_Pixel = Annotated[int, Field(ge=0, le=65535), NotBool]
_Side = Annotated[int, Field(ge=1, le=65535), NotBool]
POLL_NS = (50_000_000, 3600 * S)
MAX_TIMEOUT_NS = 10 * S


def _key_of(model: ConfigModel, name: str) -> str:
    return next(key for key, attribute in field_keys(type(model)).items() if attribute == name)


class RadiometryConfig(ConfigModel):
    """What the counts of a thermal camera measure: gain * count + offset in a unit."""

    unit: Literal["counts", "celsius", "kelvin"] = Field(
        description="The unit of gain * count + offset: celsius, kelvin, or counts, which have no temperature."
    )
    gain: Annotated[float, Field(gt=0), NotBool] = Field(
        default=1.0, description="What one count is in this unit, such as 0.01 for counts in hundredths of a kelvin."
    )
    offset: Annotated[float, NotBool] = Field(default=0.0, description="What count 0 is in this unit.")


class RawConfig(ConfigModel):
    """The layout of a file of raw samples: frames one after another."""

    size: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")] = Field(
        description="WIDTHxHEIGHT of a frame in pixels, with all its panels and telemetry rows."
    )
    samples: Literal["uint8", "uint16", "int16", "float32", "yuyv"] = Field(
        default="uint16",
        description="The samples, little-endian unless byte_order is big; of yuyv (packed 4:2:2) the luma is used.",
    )
    header: Annotated[int, Field(ge=0), NotBool] = Field(default=0, description="Bytes before the first frame.")
    frame_header: Annotated[int, Field(ge=0), NotBool] = Field(default=0, description="Bytes before each frame.")

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height)."""
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class SourceConfig(ConfigModel):
    """One camera, video file or image folder."""

    url: Annotated[str, AfterValidator(_source_url)] = Field(
        description="A video file or an image folder, relative to this file; a live camera (rtsp://, http:// for "
        "MJPEG, /dev/video0, or any other URL that FFmpeg reads); or synthetic://street. video.mkv?stream=1 is one of "
        "several video streams of a file, by the index that ffprobe shows."
    )
    fps: Annotated[float, Field(gt=0, le=10_000), NotBool] | None = Field(
        default=None,
        description="Frame rate of files, image folders and V4L2 devices, if the source does not report it or reports "
        "a wrong one.",
    )
    value_range: ValueInterval | None = Field(
        default=None,
        validation_alias="range",
        description="The counts [low, high] of a 16-bit camera that map to black and white; default: agc. Degrees or "
        "other values of images in floating point, which need it.",
    )
    agc: AgcSection = Field(
        default=None,
        description="Automatic gain control of the infrared camera: auto, linear, plateau, local, off, or its keys. "
        "Default: auto for images of more than 8 bits without a range, off for others.",
    )
    repair: RepairConfig | None = Field(
        default=None, description="What is wrong with the infrared sensor, and is corrected; default: nothing."
    )
    polarity: Literal["white-hot", "black-hot"] = Field(
        default="white-hot",
        description="black-hot inverts the infrared camera's luma: of a camera that shows hot objects dark, or to see "
        "them dark.",
    )
    denoise: Literal["off", "auto"] = Field(
        default="off",
        description="auto smooths the camera's images before they are fused, by as much as their noise, if that is "
        "more than about 4 of 255 levels; clean images are not changed. It takes 2 ms for 640x480.",
    )
    byte_order: Literal["little", "big"] | None = Field(
        default=None,
        description="The order of the bytes in the 16-bit samples of image files and video files that do not have the "
        "order which their format states, such as PNG images extracted from radiometric JPEG files: little.",
    )
    raw: RawConfig | None = Field(
        default=None, description="The layout of a file of raw samples, such as {size: 256x384, header: 8}."
    )
    yuyv: Literal["colour", "counts"] = Field(
        default="colour",
        description="counts takes the two bytes of each pixel of packed video (YUYV) as a 16-bit count, as thermal USB "
        "sticks send them in one half of their image; crop that half.",
    )
    radiometry: RadiometryConfig | None = Field(
        default=None,
        description="What the counts of a thermal camera measure, such as {unit: kelvin, gain: 0.01}; default: what "
        "the file says, as radiometric JPEG files of FLIR and infrared recordings do.",
    )
    telemetry: TelemetrySection = Field(
        default=None,
        description="Telemetry rows of the infrared camera: lepton, boson, or its keys. They are cut off before crop, "
        "and read: during a flat-field correction the image counts as frozen.",
    )
    crop: tuple[_Pixel, _Pixel, _Side, _Side] | None = Field(
        default=None,
        description="The part [x, y, width, height] that is used, in pixels of the image as a player shows it, before "
        "rotate and flip: one of several panels, for example.",
    )
    rotate: Annotated[Literal[0, 90, 180, 270], NotBool] = Field(
        default=0, description="Rotates the cropped image clockwise, by degrees."
    )
    flip: Literal["horizontal", "vertical"] | None = Field(
        default=None,
        description="Mirrors the rotated image: horizontal exchanges left and right, vertical top and bottom.",
    )
    latency_ns: DurationNs = Field(
        default=0,
        validation_alias="latency",
        description="Minimum delay from capture to arrival of a live camera. Only the difference between the two "
        "cameras matters; cameras synchronised by NTP need none.",
    )
    transport: Literal["tcp", "udp"] | None = Field(
        default=None, description="How RTP of an rtsp:// camera is transported; default: tcp."
    )
    open_timeout_ns: PositiveDurationNs | None = Field(
        default=None,
        validation_alias="open_timeout",
        description="How long opening a live camera may take before it is retried; default: 5s, at most 10s.",
    )
    stall_timeout_ns: PositiveDurationNs | None = Field(
        default=None,
        validation_alias="stall_timeout",
        description="A live camera without data for this long is reconnected; default: 3s, at most 10s.",
    )
    format: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")] | None = Field(
        default=None,
        description="The format of a live camera's stream by FFmpeg's name, such as mjpeg, where FFmpeg does not "
        "recognise it.",
    )
    poll_ns: PositiveDurationNs | None = Field(
        default=None,
        validation_alias="poll",
        description="For an http:// camera that gives one image for each request: how often it is requested, 50ms to "
        "1h.",
    )
    damaged: Literal["drop", "show"] | None = Field(
        default=None,
        description="What happens to frames of a live camera that are damaged by lost packets: drop, the default, "
        "leaves them out; show uses them as they are.",
    )
    decoder: DecoderName = Field(
        default="auto",
        description="How video is decoded: auto uses an NVIDIA GPU's decoder where it works and software elsewhere, "
        "also for streams that the GPU cannot decode; nvdec requires the GPU's; software never uses it.",
    )
    freeze_detection: Literal["on", "off"] = Field(
        default="on",
        description="Whether a live camera counts as not connected while it repeats one image, as a hung camera does. "
        "off is for test images and other pictures that do not change; a camera with poll has it only if it is set.",
    )
    options: dict[str, str] = Field(
        default={},
        description="Options for FFmpeg to open a live camera, such as {video_size: 1280x720, input_format: mjpeg} "
        "for a V4L2 device. They override those of fusepipe.",
    )

    @property
    def count_range(self) -> tuple[int, int] | None:
        """``value_range`` for sources of counts."""
        return None if self.value_range is None else (round(self.value_range[0]), round(self.value_range[1]))

    @field_validator("open_timeout_ns", "stall_timeout_ns")
    @classmethod
    def _bounded(cls, value: int | None) -> int | None:
        if value is not None and value > MAX_TIMEOUT_NS:
            raise ValueError("should be at most 10s: stopping a run waits for it")
        return value

    @field_validator("poll_ns")
    @classmethod
    def _possible_poll(cls, value: int | None) -> int | None:
        if value is not None and not POLL_NS[0] <= value <= POLL_NS[1]:
            raise ValueError("should be from 50ms to 1h")
        return value

    @model_validator(mode="after")
    def _live_only(self) -> Self:
        names = (
            "latency_ns",
            "transport",
            "open_timeout_ns",
            "stall_timeout_ns",
            "format",
            "poll_ns",
            "damaged",
            "freeze_detection",
            "options",
        )
        given = [name for name in names if name in self.model_fields_set and getattr(self, name)]
        scheme = scheme_of(self.url)
        if given and self.kind == "path":
            raise ValueError(f"{_key_of(self, given[0])} is for live cameras, such as rtsp://; remove it")
        for key in ("crop", "rotate", "flip", "telemetry"):
            if getattr(self, key) and self.kind == "synthetic":
                raise ValueError(f"{key} is for cameras and files; remove it")
        if self.agc is not None and self.agc.mode != "off" and self.value_range is not None:
            raise ValueError(f"range fixes the levels that agc: {self.agc.mode} would follow; remove one of them")
        if self.byte_order is not None and self.kind != "path":
            raise ValueError("byte_order is for files; remove it")
        if self.raw is not None and self.kind != "path":
            raise ValueError("raw is for files; remove it")
        if self.yuyv == "counts" and (self.kind == "synthetic" or self.decoder == "nvdec"):
            raise ValueError("yuyv: counts is for cameras and files that are decoded in software; remove it")
        if self.poll_ns is not None and scheme not in ("http", "https"):
            raise ValueError("poll is for http:// cameras that give one image for each request; remove it")
        if self.format is not None and is_device(self.url):
            raise ValueError("format is for network cameras; for a V4L2 device set options: {input_format: mjpeg}")
        if self.decoder != "auto" and self.kind == "synthetic":
            raise ValueError("decoder is for video files and cameras; remove it")
        if self.transport is not None and scheme not in ("rtsp", "rtsps"):
            raise ValueError("transport is for rtsp:// cameras; remove it")
        if self.fps is not None and self.kind == "live" and not is_device(self.url):
            raise ValueError("fps is for files and devices; a network camera sets its own rate: remove it")
        return self

    @field_validator("fps")
    @classmethod
    def _fps_of_a_file(cls, value: float | None, info: ValidationInfo) -> float | None:
        url = info.data.get("url", "")
        if value is not None and input_kind(url) == "synthetic":
            raise ValueError("set it in the URL of a synthetic source: synthetic://street?fps=25")
        return value

    @property
    def detects_freezes(self) -> bool:
        """Whether a repeated image means that the camera hangs; a polled one may give the same image several times."""
        asked = self.poll_ns is None or "freeze_detection" in self.model_fields_set
        return asked and self.freeze_detection == "on"

    @property
    def kind(self) -> LocationKind:
        """``path``, ``synthetic`` or ``live``."""
        return input_kind(self.url)

    @property
    def label(self) -> str:
        """The URL with secrets hidden, for messages."""
        return redact_url(self.url)

    def __repr_args__(self) -> Any:
        shown = {"url": self.label, "options": dict.fromkeys(self.options, HIDDEN)}  # headers may have credentials
        return [(name, shown.get(str(name), value)) for name, value in super().__repr_args__()]
