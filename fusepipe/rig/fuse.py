"""``fusepipe fuse``: the rig that two images, two folders or two videos make, and its output.

What reads images and runs rigs is imported after the names were checked: a mistyped one is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepipe.config.locations import split_stream
from fusepipe.core.errors import SinkError, SourceError, UsageError
from fusepipe.core.image_formats import READ_SUFFIXES, WRITTEN_SUFFIXES
from fusepipe.core.redact import redact_url
from fusepipe.core.video_formats import alternatives, folder_name_problem, output_name_problem, video_format
from fusepipe.core.view_settings import OutputColour

if TYPE_CHECKING:
    from fusepipe.pipeline.sinks.base import Sink
    from fusepipe.rig.api import Pipeline
    from fusepipe.rig.from_options import CameraKeys


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """The options of ``fusepipe fuse``. ``value_range``: infrared counts or values (black, white).

    ``output`` is an image, a video or a folder; as text it may end in a slash, which makes any name a folder.
    ``swap`` exchanges the two inputs. ``denoise``: the camera whose images are smoothed, or ``both``. ``keys``: further
    keys of each camera, such as its ``crop``; ``settings``: any, as text (``infrared.repair.stripes=columns``).
    """

    infrared: Path
    visible: Path
    output: Path | str
    model: str = "stream"
    backend: str = "auto"
    precision: str = "auto"
    engine: Path | None = None
    device: str | None = None
    calibration: Path | None = None
    value_range: tuple[float, float] | None = None
    visible_range: tuple[float, float] | None = None
    agc: str | None = None
    polarity: str | None = None
    telemetry: str | None = None
    denoise: str | None = None
    byte_order: str | None = None
    visible_byte_order: str | None = None
    image_format: str | None = None
    colour: OutputColour | None = None
    grey: bool = False
    overwrite: bool = False
    strict: bool = False
    swap: bool = False
    offset: str | None = None
    tolerance: str | None = None
    pair_by: str | None = None
    on_missing: str | None = None
    keys: CameraKeys = field(default_factory=dict)
    settings: Sequence[str] = ()
    decoder: str = "auto"


def fuse_pipeline(options: FuseOptions) -> Pipeline:
    """The pipeline that fuses the two inputs into the output, not opened yet.

    Raises :class:`SourceError` for missing inputs, :class:`UsageError` for options that do not go together.
    """
    if options.grey and options.colour not in (None, "grey"):
        raise UsageError(f"--grey and --colour {options.colour}: choose one of them")
    if options.swap:
        options = replace(options, infrared=options.visible, visible=options.infrared, swap=False)
    stills = _are_images(options.infrared, options.visible)
    sinks, config = _output(options, stills=stills)
    body: dict[str, Any] = {
        "name": "fuse",
        "infrared": {"url": str(options.infrared)},
        "visible": {"url": str(options.visible)},
        "fusion": {"model": options.model, "backend": options.backend, "precision": options.precision},
        "output": {"colour": "grey" if options.grey else options.colour or "visible"},
        "sinks": config,
    }
    for camera, values in _camera_keys(options).items():
        body[camera].update(values)
    sync = {
        "offset": options.offset,
        "tolerance": options.tolerance,
        "pair_by": options.pair_by,
        "on_missing": options.on_missing,
    }
    body["sync"] = {key: value for key, value in sync.items() if value is not None}
    if options.engine:
        body["fusion"]["engine"] = str(options.engine)
    if options.device is not None:
        body["fusion"]["device"] = options.device
    if options.calibration is not None:
        body["registration"] = {"calibration": str(options.calibration)}
    from fusepipe.rig.api import Pipeline
    from fusepipe.rig.from_options import rig_from_options

    return Pipeline(rig_from_options(body), overwrite=options.overwrite, strict=options.strict, sinks=sinks)


def _camera_keys(options: FuseOptions) -> dict[str, dict[str, Any]]:
    """The keys of each camera besides its URL; raises :class:`UsageError` for one that two options set."""
    from fusepipe.rig.camera_settings import CAMERAS, camera_settings

    infrared = {
        "range": options.value_range,
        "byte_order": options.byte_order,
        "agc": options.agc,
        "polarity": options.polarity,
        "telemetry": options.telemetry,
    }
    visible = {"range": options.visible_range, "byte_order": options.visible_byte_order}
    shared: dict[str, dict[str, str]] = {camera: {} for camera in CAMERAS}
    for camera in CAMERAS:
        if options.denoise in (camera, "both"):
            shared[camera]["denoise"] = "auto"
        if options.decoder != "auto":
            shared[camera]["decoder"] = options.decoder
    given = {
        camera: {
            **options.keys.get(camera, {}),
            **{key: value for key, value in own.items() if value},
            **shared[camera],
        }
        for camera, own in zip(CAMERAS, (infrared, visible), strict=True)
    }
    for camera, values in camera_settings(options.settings).items():
        if twice := given[camera].keys() & values.keys():
            raise UsageError(f"--set {camera}.{min(twice)}: an option of its own sets it too; give one of them")
        given[camera].update(values)
    return given


def _are_images(infrared: Path, visible: Path) -> bool:
    """Whether both inputs are single images; raises where the two are of different kinds."""
    for path in (infrared, visible):
        if url := _url(path):
            raise UsageError(f"{redact_url(url)}: fuse takes files and folders; write a rig and use fusepipe run")
    (infrared, _), (visible, _) = split_stream(infrared), split_stream(visible)
    for path in (infrared, visible):
        if not path.exists():
            raise SourceError(f"{path}: no such file or folder")
    if infrared.is_dir() != visible.is_dir():
        one, other = (infrared, visible) if infrared.is_dir() else (visible, infrared)
        raise UsageError(f"{one} is a folder and {other} is not; give two images, two folders or two videos")
    from fusepipe.core.image_pages import holds_many_images

    image = [
        path.is_file() and path.suffix.lower() in READ_SUFFIXES and not holds_many_images(path)
        for path in (infrared, visible)
    ]
    if image[0] != image[1]:
        one, other = (infrared, visible) if image[0] else (visible, infrared)
        raise UsageError(f"{one} is an image and {other} {_kind(other)}; give two images, two folders or two videos")
    return image[0]


def _url(path: Path) -> str:
    """The URL that was given as a path, which has lost one of its slashes; empty for others."""
    scheme, separator, rest = str(path).partition(":/")
    return f"{scheme}://{rest}" if separator and scheme.isalnum() and not path.exists() else ""


def _kind(path: Path) -> str:
    """What an input that is not one image is, by its name."""
    if path.suffix.lower() in READ_SUFFIXES:
        return "a file of many images"
    return (
        "a video"
        if video_format(path) is not None
        else f"is not, by its suffix ({alternatives(sorted(READ_SUFFIXES))})"
    )


def _require_meant_as_folder(name: str) -> None:
    """Raises :class:`SinkError` for an existing folder with the name of a video or image, without a slash.

    A file was meant: thousands of images in that folder would be a surprise.
    """
    path = Path(name)
    kind, file = ("a video", "fused.mkv") if video_format(path) is not None else ("an image", "fused.png")
    if name.endswith("/") or (kind == "an image" and path.suffix.lower() not in READ_SUFFIXES):
        return
    raise SinkError(
        f"{name}: is a folder; name {kind} such as {path / file}, or write {name}/ for images in this folder"
    )


def _output(options: FuseOptions, *, stills: bool) -> tuple[list[Sink] | None, list[dict[str, Any]]]:
    """The one image of two images as a sink, else the rig's ``sinks``."""
    name = str(options.output)
    if not name.strip():
        raise UsageError("--output is empty; name an image, a folder or a video")
    if problem := output_name_problem(name):
        raise UsageError(f"{redact_url(name)}: {problem}")
    output = Path(name)
    if name.endswith("/") or output.is_dir():
        _require_meant_as_folder(name)
        return None, [{"images": f"{output}/", "format": options.image_format or "png"}]
    if video_format(output) is not None:
        if options.image_format is not None:
            raise UsageError(f"--format {options.image_format} is for images in a folder, and {name} is a video")
        return None, [{"file": name.replace("%", "%%")}]  # a plain name, not a time format
    if stills and output.suffix:
        if options.image_format is not None:
            raise UsageError("--format is for a folder; the suffix of the output image sets its format")
        if output.suffix.lower() not in WRITTEN_SUFFIXES:
            kinds = alternatives(sorted(WRITTEN_SUFFIXES))
            raise UsageError(f"{output}: unknown image format {output.suffix!r}; name an image ({kinds}) or a folder/")
        from fusepipe.pipeline.sinks.files.images import ImageFileSink

        return [ImageFileSink(output, overwrite=options.overwrite)], []
    if output.suffix.lower() in READ_SUFFIXES:
        raise UsageError(f"{output}: is one image, but the inputs are many; name a folder")
    if problem := folder_name_problem(name):
        raise UsageError(f"{name}: {problem}")
    return None, [{"images": name, "format": options.image_format or "png"}]
