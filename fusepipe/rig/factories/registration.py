"""Makes the registration of a rig: the aligner from its calibration, the crop to the common view, a description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fusepipe.config.schema import RegistrationConfig, Rig
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Band, Size
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.stages.stretch import StretchWarning
from fusepipe.rig.from_options import setting_name

if TYPE_CHECKING:
    from fusepipe.calibration.aligner import Aligner, Alignment
    from fusepipe.calibration.matrix import Matrix3
    from fusepipe.calibration.parallax.local_alignment import Displacement
    from fusepipe.calibration.warp import RemapWarp
    from fusepipe.pipeline.stages.cropping import CommonViewCrop
    from fusepipe.rig.factories.manual_alignment import ManualAlignment


@dataclass(frozen=True, slots=True)
class OpenedRegistration:
    """How the infrared image is mapped onto the visible one; ``description`` says it for people.

    ``common_view`` is ``None`` unless the rig has ``registration.outside: crop``: without it the visible image is kept
    whole, and there is no stage that crops.
    """

    aligner: Aligner
    common_view: CommonViewCrop | None
    description: str


def make_aligner(calibration: str | None, distance_m: float | None = None, plane: str | None = None) -> Aligner:
    """The aligner of a calibration file or ``synthetic://`` scene at a plane distance, or at a ``plane`` of the file.

    Raises :class:`UsageError` or :class:`ConfigError` for a calibration that cannot be read.
    """
    from fusepipe.calibration import warp
    from fusepipe.calibration.aligner import Aligner

    if plane is not None and (calibration is None or calibration.startswith("synthetic://")):
        raise UsageError(f"plane: {plane} needs a calibration file that has it; set calibration, or omit plane")
    if calibration is not None and calibration.startswith("synthetic://"):
        return Aligner(partial(_synthetic_warp, calibration), distance_m)
    loaded = None
    if calibration is not None:
        from fusepipe.calibration.file.named_planes import at_plane
        from fusepipe.calibration.file.storage import load_calibration

        loaded = at_plane(load_calibration(Path(calibration)), plane)
    return Aligner(partial(warp.build_warp, loaded), distance_m)


def shape_problem(registration: RegistrationConfig, band: Band) -> Callable[[Size], str] | None:
    """Tells why images of a (width, height) do not belong to the calibration file; ``None`` without a file.

    Raises as :func:`make_aligner` does.
    """
    calibration = registration.calibration
    if calibration is None or calibration.startswith("synthetic://"):
        return None
    from fusepipe.calibration.file.storage import load_calibration
    from fusepipe.calibration.matrix import same_shape

    loaded = load_calibration(Path(calibration))
    made = loaded.infrared.size if band is Band.INFRARED else loaded.visible.size

    def problem(size: Size) -> str:
        return "" if same_shape(made, size) else f"{_text(size)}; the calibration was made at {_text(made)}"

    return problem


def plane_displacements(registration: RegistrationConfig) -> Callable[[Size, Size], list[Displacement]] | None:
    """Makes the displacements of the calibration's other planes for an infrared and a (small) visible size.

    ``None`` where it names no others. Raises as :func:`make_aligner` does.
    """
    calibration = registration.calibration
    if calibration is None or calibration.startswith("synthetic://"):
        return None
    from fusepipe.calibration.file.named_planes import plane_names
    from fusepipe.calibration.file.storage import load_calibration
    from fusepipe.calibration.parallax.plane_parallax import plane_displacement

    loaded = load_calibration(Path(calibration))
    own = registration.plane or loaded.plane
    others = [name for name in plane_names(loaded) if name != own]
    if not others:
        return None
    base = make_aligner(calibration, registration.plane_distance_m, registration.plane).alignment
    planes = [make_aligner(calibration, None, name).alignment for name in others]

    def displacements(infrared: Size, visible: Size) -> list[Displacement]:
        first, *rest = (alignment(infrared, visible) for alignment in (base, *planes))
        return [plane_displacement(first, other) for other in rest if first is not None and other is not None]

    return displacements


def manual_alignment(rig: Rig, aligner: Aligner, visible: Size) -> ManualAlignment:
    """What moves the infrared image by hand; ``visible`` is the (width, height) of the visible images."""
    from fusepipe.rig.factories.manual_alignment import ManualAlignment

    calibration = rig.registration.calibration
    path = None if calibration is None or calibration.startswith("synthetic://") else Path(calibration)
    return ManualAlignment(aligner, path, visible, correcting=rig.registration.drift == "correct")


def _synthetic_warp(
    scene: str, infrared: Size, visible: Size, distance_m: float | None, adjust: Matrix3 | None
) -> RemapWarp | None:
    from fusepipe.calibration.warp import RemapWarp
    from fusepipe.pipeline.sources.synthetic.truth import synthetic_calibration

    if distance_m is not None:
        raise UsageError("plane_distance: synthetic://street has one plane only; omit it")
    matrix = synthetic_calibration(scene, infrared, visible)
    return RemapWarp(matrix if adjust is None else adjust @ matrix, infrared, visible)


def make_common_view(alignment: Alignment, infrared: Size) -> CommonViewCrop:
    """Crops to what both cameras see with this alignment; ``infrared`` is (width, height)."""
    from fusepipe.calibration.common_view import Rectangle, common_view
    from fusepipe.pipeline.stages.cropping import CommonViewCrop

    def rectangle(visible: Size) -> Rectangle:
        warp = alignment(infrared, visible)
        return common_view(None if warp is None else warp.valid, visible)

    return CommonViewCrop(rectangle)


def open_registration(
    rig: Rig, infrared: SourceInfo, visible: SourceInfo, output: Size, warn: Callable[[str], None]
) -> OpenedRegistration:
    """Loads the calibration and builds the warp once, so that a bad one is reported before the run.

    ``output`` is the (width, height) of the output, for the description of a crop. Raises as :func:`make_aligner` does.
    """
    registration = rig.registration
    crop = registration.outside == "crop"
    aligner = make_aligner(registration.calibration, registration.plane_distance_m, registration.plane)
    if not (infrared.known and visible.known):
        if crop:
            raise UsageError(
                f"{rig.name}: registration.outside is crop, and the common view is not known while a camera is "
                "offline: start again when both are connected, or leave outside at visible"
            )
        return OpenedRegistration(aligner, None, registration.calibration or "known when both cameras are connected")
    sizes = (infrared.width, infrared.height), (visible.width, visible.height)
    aligner.alignment(*sizes)
    if registration.calibration is None:
        StretchWarning(setting_name(rig, "registration.calibration"), warn).look_at(*sizes)
    common_view = make_common_view(aligner.alignment, sizes[0]) if crop else None
    described = describe_map(registration, *sizes)
    if common_view is not None:
        kept = common_view.at(output).size
        described += "" if kept == output else f", cropped to {_text(kept)} of {_text(output)}"
    if registration.local == "on":
        described += ", aligned locally"
    return OpenedRegistration(aligner, common_view, described)


def describe_map(registration: RegistrationConfig, infrared: Size, visible: Size) -> str:
    """What maps infrared images of this (width, height) onto visible ones."""
    if registration.calibration is not None:
        distance_m = registration.plane_distance_m
        plane = "" if registration.plane is None else f", plane {registration.plane}"
        return registration.calibration + plane + ("" if distance_m is None else f" at {distance_m:g} m")
    if infrared == visible:
        return "none (the images are taken as registered)"
    return f"stretched from {_text(infrared)} to {_text(visible)}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
