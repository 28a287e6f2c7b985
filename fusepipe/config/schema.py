"""The models of ``rigs.yaml``: frozen, typed, one description per key; docs/rigs.md is generated from them.

A key of the file is the alias; the attribute in Python has the unit in its name (``tolerance`` is
``tolerance_ns``). From Python both work: ``SyncConfig(tolerance_ns=20_000_000)`` and
``SyncConfig.model_validate({"tolerance": "20ms"})``.

Reserved keys and values are in the models already, marked ``"available": False`` (a key) or
``"unavailable_values"`` (some values); :mod:`fusepipe.config.unsupported` rejects them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from fusepipe.config.base import ConfigModel, NotBool, later_values
from fusepipe.config.locations import (
    LIVE_SCHEMES,
    SCHEMES,
    LocationKind,
    authority_problem,
    check_text,
    kind_of,
    resolve_path,
    resolve_pattern,
    resolve_url,
    scheme_of,
)
from fusepipe.config.sinks import FileSink, ImagesSink, PreviewSink, RtspSink, Sink, SinkConfig
from fusepipe.core.frames import Band
from fusepipe.core.models import BACKENDS, MODELS, PRECISIONS
from fusepipe.core.redact import HIDDEN, redact_url, remember, unescaped_problem
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.units import MS, DurationNs, LengthM, PositiveDurationNs, S, SignedDurationNs
from fusepipe.core.yaml_models import field_keys

__all__ = [
    "Defaults",
    "FileSink",
    "FusionConfig",
    "ImagesSink",
    "OutputConfig",
    "PreviewSink",
    "RegistrationConfig",
    "Rig",
    "RigBody",
    "RigFile",
    "RtspSink",
    "SinkConfig",
    "SourceConfig",
    "SyncConfig",
]

RIG_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

Backend = Literal["auto", "openvino", "tensorrt", "tensorrt-rtx", "torch"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
# names that core.models does not list yet are reserved
_LATER_BACKENDS = [name for name in get_args(Backend) if name != "auto" and name not in BACKENDS]
_LATER_PRECISIONS = [name for name in get_args(Precision) if name not in PRECISIONS]


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


def _known_model(value: str) -> str:
    if value not in MODELS:
        raise ValueError(f"unknown model ({did_you_mean(value, list(MODELS))})")
    return value


def check_rig_name(value: str) -> str:
    """Rejects a name that cannot be part of a file name and of a URL."""
    if not re.fullmatch(RIG_NAME, value):
        raise ValueError(
            "a rig name is at most 64 letters, digits, '-', '_' and '.', and starts with a letter or digit"
        )
    return value


def _rising(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] >= value[1]:
        raise ValueError("should be [low, high] with low below high")
    return value


MAX_TIMEOUT_NS = 10 * S


def _key_of(model: ConfigModel, name: str) -> str:
    return next(key for key, attribute in field_keys(type(model)).items() if attribute == name)


Count = Annotated[int, Field(ge=0, le=65535), NotBool]


RigName = Annotated[str, AfterValidator(check_rig_name), WithJsonSchema({"type": "string", "pattern": RIG_NAME})]


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
    count_range: Annotated[tuple[Count, Count], AfterValidator(_rising)] | None = Field(
        default=None,
        validation_alias="range",
        description="The counts [low, high] of a 16-bit camera that map to black and white; default: the full range "
        "of the bit depth.",
    )
    byte_order: Literal["little", "big"] | None = Field(
        default=None,
        description="The order of the bytes in the 16-bit samples of image files and video files that do not have the "
        "order which their format states, such as PNG images extracted from radiometric JPEG files: little.",
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
    options: dict[str, str] = Field(
        default={},
        description="Options for FFmpeg to open a live camera, such as {video_size: 1280x720, input_format: mjpeg} "
        "for a V4L2 device. They override those of fusepipe.",
    )

    @field_validator("open_timeout_ns", "stall_timeout_ns")
    @classmethod
    def _bounded(cls, value: int | None) -> int | None:
        if value is not None and value > MAX_TIMEOUT_NS:
            raise ValueError("should be at most 10s: stopping a run waits for it")
        return value

    @model_validator(mode="after")
    def _live_only(self) -> Self:
        names = ("latency_ns", "transport", "open_timeout_ns", "stall_timeout_ns", "options")
        given = [name for name in names if name in self.model_fields_set and getattr(self, name)]
        scheme = scheme_of(self.url)
        if given and self.kind == "path":
            raise ValueError(f"{_key_of(self, given[0])} is for live cameras, such as rtsp://; remove it")
        if self.byte_order is not None and self.kind != "path":
            raise ValueError("byte_order is for files; remove it")
        if self.transport is not None and scheme not in ("rtsp", "rtsps"):
            raise ValueError("transport is for rtsp:// cameras; remove it")
        if self.fps is not None and self.kind == "live" and not self.url.startswith("/dev/"):
            raise ValueError("fps is for files and devices; a network camera sets its own rate: remove it")
        return self

    @field_validator("fps")
    @classmethod
    def _fps_of_a_file(cls, value: float | None, info: ValidationInfo) -> float | None:
        url = info.data.get("url", "")
        if value is not None and kind_of(url) == "synthetic":
            raise ValueError("set it in the URL of a synthetic source: synthetic://street?fps=25")
        return value

    @property
    def kind(self) -> LocationKind:
        """``path``, ``synthetic`` or ``live``."""
        return kind_of(self.url)

    @property
    def label(self) -> str:
        """The URL with secrets hidden, for messages."""
        return redact_url(self.url)

    def __repr_args__(self) -> Any:
        shown = {"url": self.label, "options": dict.fromkeys(self.options, HIDDEN)}  # headers may have credentials
        return [(name, shown.get(str(name), value)) for name, value in super().__repr_args__()]


class SyncConfig(ConfigModel):
    """How frames of the two sources are paired."""

    reference: Band = Field(
        default=Band.VISIBLE, description="The camera that sets the pace: one output frame for each of its frames."
    )
    pair_by: Literal["auto", "name", "time"] = Field(
        default="auto",
        description="name pairs the images of two folders by stem, time pairs by capture time, that of images being in "
        "their names (2024-05-01_12-30-15.250, UNIX times) or EXIF, else their order; auto is name for two image "
        "folders with common stems.",
    )
    tolerance_ns: DurationNs = Field(
        default=20 * MS,
        validation_alias="tolerance",
        description="Largest difference between the capture times of a pair.",
    )
    max_wait_ns: DurationNs = Field(
        default=60 * MS,
        validation_alias="max_wait",
        description="How long a frame waits for its partner before on_missing applies.",
    )
    offset_ns: SignedDurationNs = Field(
        default=0,
        validation_alias="offset",
        description="Added to the capture times of the infrared camera; may be negative.",
    )
    on_missing: Literal["hold", "drop", "single"] = Field(
        default="hold",
        description="What to do with a frame without a partner: hold reuses the last frame of the other camera, drop "
        "outputs nothing, single outputs the one image.",
    )
    max_hold_ns: DurationNs = Field(
        default=S,
        validation_alias="max_hold",
        description="Largest age of a held frame; after that the pair is single.",
    )


def _calibration(value: str) -> str:
    scheme = scheme_of(check_text(value))
    if scheme not in ("", "file", "synthetic"):
        raise ValueError("should be a calibration file (.yaml) or synthetic://street")
    return value


class RegistrationConfig(ConfigModel):
    """How the infrared image is registered to the visible one."""

    calibration: Annotated[str, AfterValidator(_calibration)] | None = Field(
        default=None,
        description="A calibration file, relative to this file, or synthetic://street; without it the images are "
        "assumed to be registered.",
    )
    plane_distance_m: LengthM | None = Field(
        default=None,
        validation_alias="plane_distance",
        description="The distance from the visible camera at which the images are registered, for calibrations with a "
        "known pose; default: the distance in the calibration file.",
    )
    outside: Literal["visible", "crop"] = Field(
        default="visible",
        description="What the output shows outside the infrared view: visible, the visible image; crop, nothing: the "
        "output is cropped to the largest rectangle that both cameras see.",
    )
    drift: Literal["off", "watch", "correct"] = Field(
        default="off",
        description="watch measures and reports whether the cameras have moved relative to each other since the "
        "calibration; correct also compensates it, slowly and within limits.",
    )


class FusionConfig(ConfigModel):
    """The fusion method, and how it is computed."""

    model: Annotated[str, AfterValidator(_known_model)] = Field(
        default="stream",
        description="The fusion method. stream is the neural network for video, stream-hq a larger one for faster "
        "machines; mfe, densefuse, fusiongan and ddcgan are networks for still images, too slow for live "
        "video on a CPU; the others are classical.",
        json_schema_extra={"enum": list(MODELS)},
    )
    backend: Backend = Field(
        default="auto",
        description="What runs the network; auto selects the best one available on this machine and reports it.",
        json_schema_extra=later_values(*_LATER_BACKENDS),
    )
    precision: Precision = Field(
        default="auto",
        description="Precision of the network; auto selects the fastest that is accurate enough.",
        json_schema_extra=later_values(*_LATER_PRECISIONS),
    )
    engine: Annotated[str, AfterValidator(check_text)] | None = Field(
        default=None,
        description="An engine made by fusepipe build-engine, relative to this file; default: the cache is searched.",
    )


class OutputConfig(ConfigModel):
    """The format of the output."""

    colour: Literal["visible", "grey"] = Field(
        default="visible", description="visible keeps the colours of the visible camera."
    )
    size: Annotated[str, Field(pattern=r"^[1-9][0-9]{1,4}x[1-9][0-9]{1,4}$")] | None = Field(
        default=None,
        description="Frame size of the output of live cameras, WIDTHxHEIGHT, such as 1280x720; default: the size of "
        "the first visible frame. Set it if the visible camera may be unavailable at the start or may "
        "change its size.",
    )
    label: Literal["auto", "off", "on"] = Field(
        default="auto",
        description="Overlays HELD, SINGLE or NO SIGNAL on frames that are not fused; auto does so for live cameras.",
    )
    hot_overlay: Literal["off", "on"] = Field(
        default="off", description="Highlights hot areas in colour.", json_schema_extra=later_values("on")
    )


class Defaults(ConfigModel):
    """Settings of all rigs of the file; a rig's own keys override them one by one."""

    sync: SyncConfig = Field(default=SyncConfig(), description="How frames are paired.")
    registration: RegistrationConfig = Field(default=RegistrationConfig(), description="How the images are registered.")
    fusion: FusionConfig = Field(default=FusionConfig(), description="The fusion method.")
    output: OutputConfig = Field(default=OutputConfig(), description="The format of the output.")


class RigBody(ConfigModel):
    """Two cameras, and how their video is paired, registered, fused and written."""

    infrared: SourceConfig = Field(description="The infrared camera.")
    visible: SourceConfig = Field(description="The visible camera.")
    sync: SyncConfig = Field(default=SyncConfig(), description="How frames are paired.")
    registration: RegistrationConfig = Field(default=RegistrationConfig(), description="How the images are registered.")
    fusion: FusionConfig = Field(default=FusionConfig(), description="The fusion method.")
    output: OutputConfig = Field(default=OutputConfig(), description="The format of the output.")
    sinks: tuple[Sink, ...] = Field(
        default=(), description="The outputs: a list of files, image folders, streams and previews."
    )


class Rig(RigBody):
    """A rig that is ready to run: paths are absolute, environment variables are substituted.

    ``name``, ``base_dir`` and ``from_options`` are not keys of the file: the first is the key of the rig, the second
    the folder of the file (the working folder, for a rig made in Python).
    """

    name: RigName = Field(default="rig", description="The rig's name.")
    base_dir: Path = Field(default_factory=Path.cwd, description="The folder that relative paths start from.")
    from_options: bool = Field(
        default=False, description="Whether it was made from command-line options: messages name them instead of keys."
    )

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        base_dir = self.base_dir.absolute()
        # frozen for its users, but still being built here
        self.__dict__["base_dir"] = base_dir
        for band in ("infrared", "visible"):
            source: SourceConfig = getattr(self, band)
            self.__dict__[band] = source.model_copy(update={"url": resolve_url(source.url, base_dir)})
        registration, fusion = self.registration, self.fusion
        if registration.calibration is not None:
            path = resolve_url(registration.calibration, base_dir)
            self.__dict__["registration"] = registration.model_copy(update={"calibration": path})
        if fusion.engine is not None:
            path = resolve_path(fusion.engine, base_dir)
            self.__dict__["fusion"] = fusion.model_copy(update={"engine": path})
        self.__dict__["sinks"] = tuple(_resolve_sink(sink, base_dir) for sink in self.sinks)
        return self


def _resolve_sink(sink: SinkConfig, base_dir: Path) -> SinkConfig:
    if isinstance(sink, FileSink):
        return sink.model_copy(update={"file": resolve_pattern(sink.file, base_dir)})
    if isinstance(sink, ImagesSink):
        return sink.model_copy(update={"images": resolve_path(sink.images, base_dir)})
    return sink


class RigFile(ConfigModel):
    """A file of rigs, such as rigs.yaml."""

    schema_version: Literal[1] = Field(validation_alias="schema", description="Version of the file format.")
    defaults: Defaults = Field(default=Defaults(), description="Settings of all rigs.")
    rigs: dict[RigName, RigBody] = Field(
        min_length=1, description="The rigs by name (letters, digits, '-', '_' and '.')."
    )
