"""``fusepipe calibrate convert``: reads a calibration in one program's format and writes it in another's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusepipe.calibration.file import exchange
from fusepipe.calibration.file.exchange import Format, LengthUnit
from fusepipe.calibration.file.storage import save_calibration, save_text


@dataclass(frozen=True, slots=True)
class Conversion:
    """The formats of a finished conversion."""

    source_format: Format
    output_format: Format


def convert_calibration(
    source: Path,
    output: Path,
    output_format: Format | None = None,
    *,
    plane_distance_m: float | None = None,
    infrared_camera: int = 0,
    unit: LengthUnit | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Writes the calibration of ``source`` to ``output``.

    ``output_format`` is OpenCV's for a file of fusepipe and fusepipe's for any other, where it is not given. The other
    options are those of :func:`fusepipe.calibration.file.exchange.read`. Raises :class:`SourceError` for a file that is
    not a calibration, :class:`UsageError` for one that needs an option, :class:`OutputExistsError` and
    :class:`SinkError` as :func:`fusepipe.calibration.file.storage.save_calibration`.
    """
    source_format = exchange.detect_format(source)
    wanted: Format = output_format or ("opencv" if source_format == "fusepipe" else "fusepipe")
    calibration = exchange.read(source, source_format, plane_distance_m, infrared_camera, unit)
    if wanted == "fusepipe":
        save_calibration(calibration, output, overwrite)
    else:
        text = exchange.opencv_text(calibration) if wanted == "opencv" else exchange.kalibr_text(calibration)
        save_text(text, output, overwrite)
    return Conversion(source_format, wanted)
