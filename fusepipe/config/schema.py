"""The models of ``rigs.yaml``: frozen, typed, one description per key.

The reference (docs/rigs.md, rig-cameras.md, rig-outputs.md) is generated from them.

A key of the file is the alias; the attribute in Python has the unit in its name (``tolerance`` is
``tolerance_ns``). From Python both work: ``SyncConfig(tolerance_ns=20_000_000)`` and
``SyncConfig.model_validate({"tolerance": "20ms"})``.

Reserved keys and values are in the models already, marked ``"available": False`` (a key) or
``"unavailable_values"`` (some values); :mod:`fusepipe.config.unsupported` rejects them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from fusepipe.config.base import ConfigModel, later_values
from fusepipe.config.fusion import FusionConfig
from fusepipe.config.locations import check_text, is_device, resolve_path, resolve_pattern, resolve_url, scheme_of
from fusepipe.config.sinks import FileSink, ImagesSink, PreviewSink, RtspSink, SinkConfig, SinkEntry
from fusepipe.config.sources import SourceConfig
from fusepipe.config.sync import SyncConfig
from fusepipe.core.frames import Band
from fusepipe.core.units import LengthM
from fusepipe.core.view_settings import OutputColour

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


def check_rig_name(value: str) -> str:
    """Rejects a name that cannot be part of a file name and of a URL."""
    if not re.fullmatch(RIG_NAME, value):
        raise ValueError(
            "a rig name is at most 64 letters, digits, '-', '_' and '.', and starts with a letter or digit"
        )
    return value


RigName = Annotated[str, AfterValidator(check_rig_name), WithJsonSchema({"type": "string", "pattern": RIG_NAME})]


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
    plane: Annotated[str, Field(pattern=RIG_NAME)] | None = Field(
        default=None,
        description="The plane of the calibration file to register, by its name, such as near; default: the "
        "file's own.",
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
    local: Literal["off", "on"] = Field(
        default="off",
        description="on moves the infrared image locally, on top of the calibration, to where both images agree: for "
        "scenes with near and far objects. Parts that agree with another plane of the calibration start from it.",
    )
    limit_px: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        validation_alias="limit",
        description="The most that local may move the infrared image, in pixels of the visible one; default: an 80th "
        "of its width (8 of 640), beyond the planes of the calibration.",
    )


class OutputConfig(ConfigModel):
    """The format of the output."""

    colour: OutputColour = Field(
        default="visible",
        description="visible keeps the colours of the visible camera; weighted fades them where the detail of the "
        "fused image comes from the infrared one: in smoke, fog and glare; grey has none.",
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
        default="off",
        description="Reserved: the view of each output says what it highlights.",
        json_schema_extra=later_values("on"),
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
    sinks: tuple[SinkEntry, ...] = Field(
        default=(), description="The outputs: a list of files, image folders, streams and previews."
    )

    @model_validator(mode="after")
    def _infrared_radiometry(self) -> Self:
        if self.visible.radiometry is not None:
            raise ValueError("radiometry is for the infrared camera: remove it from visible")
        return self

    @model_validator(mode="after")
    def _one_camera_a_device(self) -> Self:
        if self.infrared.url == self.visible.url and is_device(self.visible.url):
            raise ValueError(
                f"{self.visible.url} is given for both cameras, but a V4L2 device can be opened only once; for two "
                "panels in one image pass it on over RTSP (docs/cameras.md)"
            )
        return self

    @model_validator(mode="after")
    def _interpolated_recordings(self) -> Self:
        if self.sync.on_missing != "interpolate":
            return self
        if "live" in (self.infrared.kind, self.visible.kind):
            raise ValueError(
                "sync.on_missing: interpolate is for recordings: a live camera's next infrared frame is not known yet; "
                "use hold"
            )
        if self.sync.reference is Band.INFRARED:
            raise ValueError("sync.on_missing: interpolate computes infrared images: set sync.reference: visible")
        return self

    @model_validator(mode="after")
    def _infrared_only(self) -> Self:
        for key in ("agc", "polarity", "repair"):
            if key in self.visible.model_fields_set:
                raise ValueError(f"visible.{key} is for the infrared camera; move it to infrared or remove it")
        return self


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
            self.__dict__[band] = _resolve_source(source, base_dir)
        registration, fusion = self.registration, self.fusion
        if registration.calibration is not None:
            path = resolve_url(registration.calibration, base_dir)
            self.__dict__["registration"] = registration.model_copy(update={"calibration": path})
        if fusion.engine is not None:
            path = resolve_path(fusion.engine, base_dir)
            self.__dict__["fusion"] = fusion.model_copy(update={"engine": path})
        self.__dict__["sinks"] = tuple(_resolve_sink(sink, base_dir) for sink in self.sinks)
        return self


def _resolve_source(source: SourceConfig, base_dir: Path) -> SourceConfig:
    update: dict[str, object] = {"url": resolve_url(source.url, base_dir)}
    if source.repair is not None and source.repair.shading is not None:
        shading = resolve_path(source.repair.shading, base_dir)
        update["repair"] = source.repair.model_copy(update={"shading": shading})
    return source.model_copy(update=update)


def _resolve_sink(sink: SinkConfig, base_dir: Path) -> SinkConfig:
    if isinstance(sink, FileSink):
        return sink.model_copy(update={"file": resolve_pattern(sink.file, base_dir)})
    if isinstance(sink, ImagesSink):
        return sink.model_copy(update={"images": resolve_path(sink.images, base_dir)})
    given = {"certificate": sink.certificate, "key": sink.key}
    return sink.model_copy(
        update={key: resolve_path(file, base_dir) for key, file in given.items() if file is not None}
    )


class RigFile(ConfigModel):
    """A file of rigs, such as rigs.yaml."""

    schema_version: Literal[1] = Field(validation_alias="schema", description="Version of the file format.")
    defaults: Defaults = Field(default=Defaults(), description="Settings of all rigs.")
    rigs: dict[RigName, RigBody] = Field(
        min_length=1, description="The rigs by name (letters, digits, '-', '_' and '.')."
    )
