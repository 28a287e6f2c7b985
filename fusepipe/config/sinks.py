"""The models of sinks: where fused video goes. The key that names its place says which kind a sink is."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from fusepipe.config.base import LATER, ConfigModel, NotBool
from fusepipe.config.locations import check_strftime, check_text
from fusepipe.config.redact import redact
from fusepipe.config.units import PositiveDurationNs, S
from fusepipe.config.yaml_lines import did_you_mean

Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

VIDEO_SUFFIXES = (".mkv", ".mp4")


def _path_text(value: Any) -> str:
    if not isinstance(value, str | PurePath):
        raise ValueError("should be a path")
    return check_text(str(value))


def _video_path(value: Any) -> str:
    path = PurePath(text := check_strftime(_path_text(value)))
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(f"should end in {' or '.join(VIDEO_SUFFIXES)}")
    if path.stem.endswith(".partial"):
        raise ValueError("ends in .partial, which names a file that is being written")
    return text


class FileSink(ConfigModel):
    """A video file. It is written as NAME.partial.mkv and renamed when it is complete."""

    # A pattern for strftime: a percent sign of the name itself is %%, also where the rig resolved the path.
    file: Annotated[str, BeforeValidator(_video_path)] = Field(
        description="The video file, .mkv or .mp4, relative to this file; may hold the start time as "
        "%Y %m %d %H %M %S (a percent sign is %%)."
    )
    codec: Literal["h264", "ffv1"] = Field(
        default="h264", description="h264 plays everywhere; ffv1 (in .mkv) loses nothing and is large."
    )
    crf: Annotated[int, NotBool] = Field(
        default=20,
        ge=0,
        le=51,
        validation_alias="quality",
        description="Constant rate factor of h264: 0 is lossless, 20 looks like the original, 51 is worst.",
    )
    preset: Preset = Field(
        default="superfast", description="How hard h264 tries: slower gives smaller files for more processor time."
    )
    flush_ns: PositiveDurationNs = Field(
        default=S,
        validation_alias="flush",
        description="A file that was being written when the power failed plays up to this long before.",
    )
    segment_ns: PositiveDurationNs | None = Field(
        default=None,
        validation_alias="segment",
        description="Starts a new file every so often.",
        json_schema_extra=LATER,
    )

    @model_validator(mode="after")
    def _codec_and_options(self) -> Self:
        if self.codec == "ffv1":
            # The field set is by Python name, the message by key.
            for name, key in (("crf", "quality"), ("preset", "preset")):
                if name in self.model_fields_set:
                    raise ValueError(f"{key} is for codec h264; ffv1 loses nothing: remove {key}")
            if PurePath(self.file).suffix.lower() != ".mkv":
                raise ValueError("codec ffv1 needs a file that ends in .mkv")
        return self


class ImagesSink(ConfigModel):
    """A folder of images, one a pair."""

    images: Annotated[str, BeforeValidator(_path_text)] = Field(
        description="The folder, relative to this file; it is made where it is not there."
    )
    format: Literal["png", "jpg", "tif"] = Field(default="png", description="png and tif lose nothing; jpg is smaller.")


class RtspSink(ConfigModel):
    """A live stream that players open."""

    rtsp: Annotated[str, AfterValidator(check_text)] = Field(
        description="Where it is served, such as rtsp://0.0.0.0:8554/roof.", json_schema_extra=LATER
    )

    def __repr_args__(self) -> Any:
        return [("rtsp", redact(self.rtsp))]


class PreviewSink(ConfigModel):
    """A page for a browser with the live picture."""

    preview: Annotated[str, AfterValidator(check_text)] = Field(
        description="Where it is served, such as http://127.0.0.1:8080.", json_schema_extra=LATER
    )

    def __repr_args__(self) -> Any:
        return [("preview", redact(self.preview))]


SINKS: dict[str, type[ConfigModel]] = {
    "file": FileSink,
    "images": ImagesSink,
    "rtsp": RtspSink,
    "preview": PreviewSink,
}
_EXAMPLE = "{file: out/fused.mkv}"


def _one_kind(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"should be a sink, such as {_EXAMPLE}")
    if not isinstance(value, dict):
        return value
    kinds = [kind for kind in SINKS if kind in value]
    if len(kinds) > 1:
        raise ValueError(f"is one sink with {' and '.join(kinds)}: write each as its own entry of the list")
    if not kinds and _kind(value) is None:
        raise ValueError(f"should have one of the keys {', '.join(SINKS)}, such as {_EXAMPLE}")
    return value


def _kind(value: Any) -> str | None:
    """The tag of the sink's model. A misspelt key gets the model of the nearest, whose error names it."""
    if isinstance(value, ConfigModel):
        return next((f"{kind} sink" for kind, model in SINKS.items() if isinstance(value, model)), None)
    if not isinstance(value, dict):
        return "file sink"
    for kind in SINKS:
        if kind in value:
            return f"{kind} sink"
    for key in value:
        for kind in SINKS:
            if did_you_mean(str(key), list(SINKS)) == f"did you mean {kind!r}?":
                return f"{kind} sink"
    return None


SinkConfig = (
    Annotated[FileSink, Tag("file sink")]
    | Annotated[ImagesSink, Tag("images sink")]
    | Annotated[RtspSink, Tag("rtsp sink")]
    | Annotated[PreviewSink, Tag("preview sink")]
)
Sink = Annotated[Annotated[SinkConfig, Discriminator(_kind)], BeforeValidator(_one_kind)]
