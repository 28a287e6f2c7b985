"""The models of sinks, the outputs of fused video. The first key (file, images, rtsp, preview) selects the kind."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from fusepipe.config.base import ConfigModel, NotBool
from fusepipe.config.endpoints import Endpoint, parse_preview, parse_rtsp, tls_problem
from fusepipe.config.ice_servers import PreviewIceServer
from fusepipe.config.locations import check_strftime, check_text
from fusepipe.config.page_users import PreviewUser
from fusepipe.config.view import ViewConfig
from fusepipe.core.redact import redact_url, remember
from fusepipe.core.suggest import closest
from fusepipe.core.units import BitrateBps, PositiveDurationNs, S, SizeBytes
from fusepipe.core.video_formats import (
    VIDEO_FORMATS,
    VIDEO_SUFFIXES,
    EncoderName,
    alternatives,
    folder_name_problem,
    output_name_problem,
    video_format,
)

VIEW = "What this output shows instead of the fused image."
EncoderPreset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]


def _path_text(value: Any) -> str:
    if not isinstance(value, str | PurePath):
        raise ValueError("should be a path")
    remember(str(value))
    return check_text(str(value))


def _video_path(value: Any) -> str:
    if problem := output_name_problem(_path_text(value)):
        raise ValueError(problem)
    path = PurePath(text := check_strftime(_path_text(value)))
    if video_format(path) is None:
        raise ValueError(f"should end in {alternatives(VIDEO_SUFFIXES)}")
    if path.stem.endswith(".partial"):
        raise ValueError("ends in .partial, which is reserved for files being written")
    return text


def _folder_path(value: Any) -> str:
    if problem := folder_name_problem(text := _path_text(value)):
        raise ValueError(problem)
    return text


class FileSink(ConfigModel):
    """A video file. It is written as NAME.partial.mkv and renamed when it is complete."""

    # a strftime pattern: a literal percent sign is %%, also after the path was resolved
    file: Annotated[str, BeforeValidator(_video_path)] = Field(
        description="The video file, .mkv, .mp4, .mov, .avi or .webm, relative to this file; may contain the start "
        "time as %Y %m %d %H %M %S (%% is a percent sign). AVI has a constant frame rate instead of capture times."
    )
    content: Literal["fused", "infrared"] = Field(
        default="fused",
        description="infrared records the infrared camera's counts without loss (ffv1 in .mkv), with their times and "
        "radiometry, instead of the fused video.",
    )
    infrared_track: Literal["on", "off"] = Field(
        default="off",
        description="on adds the infrared camera's counts to the fused video as a second track without loss (ffv1, "
        ".mkv only), with their times and radiometry; players show the fused one.",
    )
    codec: Literal["auto", "h264", "ffv1", "vp9"] = Field(
        default="auto",
        description="auto is vp9 in .webm, else h264, which plays everywhere; ffv1 (.mkv only) is lossless and large; "
        "vp9 (.webm and .mkv) needs several times the CPU time.",
    )
    crf: Annotated[int, NotBool] = Field(
        default=20,
        ge=0,
        le=51,
        validation_alias="quality",
        description="Constant rate factor of h264 and vp9: 0 is lossless, 20 visually lossless, 51 worst.",
    )
    preset: EncoderPreset = Field(
        default="superfast",
        description="Encoder preset of h264: slower presets make smaller files and need more CPU time.",
    )
    encoder: EncoderName = Field(
        default="x264",
        description="Of h264. auto uses hardware that encodes a test clip here (NVENC of NVIDIA, QSV of Intel GPUs), "
        "else x264. Hardware has no preset and makes larger files of the same quality.",
    )
    flush_ns: PositiveDurationNs = Field(
        default=S,
        validation_alias="flush",
        description="Flush interval: after a power failure the file plays up to this long before it.",
    )
    segment_ns: PositiveDurationNs | None = Field(
        default=None,
        validation_alias="segment",
        description="Length of a segment, such as 10min; then a new file is started. Needs a file name with the time.",
    )
    segment_bytes: SizeBytes | None = Field(
        default=None,
        validation_alias="segment_size",
        description="Size of a segment, such as 500MB; with segment, whichever comes first.",
    )
    max_age_ns: PositiveDurationNs | None = Field(
        default=None,
        validation_alias="max_age",
        description="Deletes segments that ended longer ago than this, such as 7d, and their sidecars.",
    )
    max_total_bytes: SizeBytes | None = Field(
        default=None,
        validation_alias="max_total",
        description="Deletes the oldest segments and their sidecars when all together are larger than this, such as "
        "50GB.",
    )
    zone: Literal["local", "utc"] = Field(
        default="local",
        description="Time zone of the file name: that of this machine, or UTC, which has no daylight saving time.",
    )
    sidecar: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Writes NAME.jsonl next to the video, one line per frame with the capture times of both cameras; "
        "auto does so for segments.",
    )
    view: ViewConfig = Field(default=ViewConfig(), description=VIEW)

    @property
    def chosen_codec(self) -> str:
        """``codec``, or the default of the content or container for ``auto``."""
        if self.codec == "auto" and self.content == "infrared":
            return "ffv1"
        found = video_format(self.file)
        return found.codecs[0] if self.codec == "auto" and found is not None else self.codec

    @property
    def segmented(self) -> bool:
        """Whether the recording is split into several files."""
        return self.segment_ns is not None or self.segment_bytes is not None

    @property
    def with_sidecar(self) -> bool:
        return self.sidecar == "on" or (self.sidecar == "auto" and self.segmented)

    @property
    def named_by_time(self) -> bool:
        """Whether the file name contains the time, so that a later file has another name."""
        return "%" in self.file.replace("%%", "")

    @model_validator(mode="after")
    def _segments(self) -> Self:
        for name, key in (("max_age_ns", "max_age"), ("max_total_bytes", "max_total")):
            if getattr(self, name) is not None and not self.segmented:
                raise ValueError(f"{key} deletes old segments: it needs segment, such as segment: 10min")
        if self.segmented and not self.named_by_time:
            raise ValueError("segments need a name with the time, such as rec/%Y-%m-%d_%H-%M-%S.mkv")
        largest = self.segment_bytes or 0
        if self.max_total_bytes is not None and self.max_total_bytes < 2 * largest:
            raise ValueError("max_total should hold at least two segments of segment_size")
        return self

    @model_validator(mode="after")
    def _codec_and_options(self) -> Self:
        codec = self.chosen_codec
        fields = self.model_fields_set  # has Python names, the message uses keys
        if self.content == "infrared" and codec != "ffv1":
            raise ValueError(f"codec {codec} loses counts of the infrared camera: remove codec")
        if self.content == "infrared" and "view" in fields:
            raise ValueError("an infrared recording has the camera's counts: remove view")
        if self.infrared_track == "on" and self.content == "infrared":
            raise ValueError("infrared_track is for the fused video, which this file does not have: remove it")
        if self.infrared_track == "on" and not self.file.lower().endswith(".mkv"):
            raise ValueError("infrared_track: on needs a file that ends in .mkv")
        if codec == "ffv1" and "crf" in fields:
            raise ValueError("quality is for codec h264 and vp9; ffv1 is lossless: remove quality")
        if codec != "h264" and "preset" in fields:
            raise ValueError(f"preset is for codec h264, not {codec}: remove preset")
        if codec != "h264" and "encoder" in fields:
            raise ValueError(f"encoder is for codec h264, not {codec}: remove encoder")
        if self.encoder in ("nvenc", "qsv") and self.crf == 0:
            raise ValueError(f"quality 0 is lossless, which encoder {self.encoder} is not: use encoder: x264")
        found = video_format(self.file)
        if found is not None and codec not in found.codecs:
            suffixes = [suffix for suffix, kind in VIDEO_FORMATS.items() if codec in kind.codecs]
            raise ValueError(f"codec {codec} needs a file that ends in {alternatives(suffixes)}")
        return self


class ImagesSink(ConfigModel):
    """A folder of images, one per pair."""

    images: Annotated[str, BeforeValidator(_folder_path)] = Field(
        description="The folder, relative to this file; it is created if missing. A name with a dot must end in /."
    )
    format: Literal["png", "jpg", "tif"] = Field(default="png", description="png and tif are lossless; jpg is smaller.")
    view: ViewConfig = Field(default=ViewConfig(), description=VIEW)


def _rtsp_url(value: str) -> str:
    remember(value)
    parse_rtsp(value)
    return value


def _preview_url(value: str) -> str:
    remember(value)
    parse_preview(value)
    return value


def _token(value: str) -> str:
    if len(value) < 8 or not all(c.isascii() and (c.isalnum() or c in "-_.~") for c in value):
        raise ValueError("should be at least 8 letters, digits, '-', '_', '.' or '~'")
    return value


TlsFile = Annotated[str, BeforeValidator(_path_text)]
CERTIFICATE = (
    "Encrypted servers: the PEM file of the certificate and its chain, relative to this file. A renewed one is used "
    "within a minute."
)
PRIVATE_KEY = (
    "Encrypted servers: the PEM file of the private key, without a password; default: it is in the certificate's file."
)


class RtspSink(ConfigModel):
    """A live H.264 stream: served to RTSP clients, or pushed to another server."""

    rtsp: Annotated[str, AfterValidator(_rtsp_url)] = Field(
        description="rtsp://127.0.0.1:8554/roof serves the stream to this machine, 0.0.0.0 to the network; "
        "rtsp://USER:PASSWORD@... requires authentication, rtsps:// encrypts it. rtsp+push://HOST/roof publishes it "
        "to another server."
    )
    certificate: TlsFile | None = Field(default=None, description=CERTIFICATE)
    key: TlsFile | None = Field(default=None, description=PRIVATE_KEY)
    encoder: EncoderName = Field(
        default="auto",
        description="auto uses hardware that encodes a test clip here (NVENC of NVIDIA, QSV of Intel GPUs), else x264.",
    )
    crf: Annotated[int, NotBool] = Field(
        default=23,
        ge=0,
        le=51,
        validation_alias="quality",
        description="Constant rate factor: 0 is lossless, 23 is good quality, 51 is worst.",
    )
    bitrate_bps: BitrateBps | None = Field(
        default=None, validation_alias="bitrate", description="Maximum average bit rate per client."
    )
    preset: EncoderPreset = Field(
        default="superfast", description="Encoder preset of x264: slower presets need less bandwidth and more CPU time."
    )
    key_frames_ns: PositiveDurationNs = Field(
        default=2 * S,
        validation_alias="key_frames",
        description="Maximum key frame interval. New clients get a key frame immediately anyway.",
    )
    max_clients: Annotated[int, NotBool] = Field(
        default=32, ge=1, le=128, description="Maximum number of clients of a served stream."
    )
    view: ViewConfig = Field(default=ViewConfig(), description=VIEW)

    @property
    def endpoint(self) -> Endpoint:
        """The parsed URL."""
        return parse_rtsp(self.rtsp)

    @model_validator(mode="after")
    def _options_of_its_kind(self) -> Self:
        if "max_clients" in self.model_fields_set and self.endpoint.push:
            raise ValueError("max_clients is for a stream that is served here: remove max_clients")
        if problem := tls_problem(self.endpoint, self.certificate, self.key):
            raise ValueError(problem)
        if self.bitrate_bps is not None and "crf" in self.model_fields_set:
            raise ValueError("has both quality and bitrate: keep one")
        return self

    def __repr_args__(self) -> Any:
        return [("rtsp", redact_url(self.rtsp))]


class PreviewSink(ConfigModel):
    """A web page with the live image, states and metrics. Several rigs may share one."""

    preview: Annotated[str, AfterValidator(_preview_url)] = Field(
        description="The address to serve on, such as http://127.0.0.1:8080 (this machine only), or "
        "https://0.0.0.0:8443 with a certificate."
    )
    certificate: TlsFile | None = Field(default=None, description=CERTIFICATE)
    key: TlsFile | None = Field(default=None, description=PRIVATE_KEY)
    token: Annotated[str, AfterValidator(_token)] | None = Field(
        default=None,
        description="Access token, for programs and for pages without users. A page that is served to other machines "
        "(0.0.0.0) and has no users needs one; default: a random one at each start.",
    )
    users: tuple[PreviewUser, ...] = Field(
        default=(),
        description="Who may log in, each with name, role and password_hash; rigs on one page have the same.",
    )
    hosts: tuple[Annotated[str, AfterValidator(check_text)], ...] = Field(
        default=(),
        description="Host names, besides the address, under which browsers may open the page, such as "
        "[rig.example.org].",
    )
    ice_servers: tuple[PreviewIceServer, ...] = Field(
        default=(),
        max_length=8,
        description="STUN and TURN servers for WebRTC through NATs and firewalls, each with urls, username and "
        "credential; default: none, and no other server is contacted.",
    )
    max_clients: Annotated[int, NotBool] = Field(default=16, ge=1, le=64, description="Maximum number of viewers.")
    view: ViewConfig = Field(
        default=ViewConfig(), description="What the page shows at first; each viewer may choose another view."
    )

    @property
    def endpoint(self) -> Endpoint:
        """The parsed URL."""
        return parse_preview(self.preview)

    @model_validator(mode="after")
    def _different_names(self) -> Self:
        names = [user.name for user in self.users]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"has two users named {twice!r}: keep one")
        return self

    @model_validator(mode="after")
    def _encrypted_or_not(self) -> Self:
        if problem := tls_problem(self.endpoint, self.certificate, self.key):
            raise ValueError(problem)
        return self

    def __repr_args__(self) -> Any:
        return [("preview", redact_url(self.preview))]


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
        raise ValueError(f"has {' and '.join(kinds)} in one sink: write each as a list entry of its own")
    if not kinds and _kind(value) is None:
        raise ValueError(f"should have one of the keys {', '.join(SINKS)}, such as {_EXAMPLE}")
    return value


def _kind(value: Any) -> str | None:
    """The tag of the sink's model; a misspelt key selects the closest, whose error message names it."""
    if isinstance(value, ConfigModel):
        return next((f"{kind} sink" for kind, model in SINKS.items() if isinstance(value, model)), None)
    if not isinstance(value, dict):
        return "file sink"
    for kind in SINKS:
        if kind in value:
            return f"{kind} sink"
    for key in value:
        if close := closest(str(key), SINKS):
            return f"{close} sink"
    return None


SinkConfig = (
    Annotated[FileSink, Tag("file sink")]
    | Annotated[ImagesSink, Tag("images sink")]
    | Annotated[RtspSink, Tag("rtsp sink")]
    | Annotated[PreviewSink, Tag("preview sink")]
)
SinkEntry = Annotated[Annotated[SinkConfig, Discriminator(_kind)], BeforeValidator(_one_kind)]
