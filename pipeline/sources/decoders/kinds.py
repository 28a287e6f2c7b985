"""The kinds of hardware decoders, and the choice of one for a source. Pure: FFmpeg is not imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HardwareDecoder:
    """One kind: its name in rigs and FFmpeg's device type, with the libraries it loads and what their absence means."""

    name: str
    device_type: str
    libraries: tuple[tuple[str, str], ...] = ()


HARDWARE = (
    HardwareDecoder(
        "nvdec",
        "cuda",
        (
            ("libcuda.so.1", "no NVIDIA driver"),
            (
                "libnvcuvid.so.1",
                "NVIDIA's driver lacks its video library libnvcuvid.so.1; start the container with "
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
            ),
        ),
    ),
)
"""In the order in which ``auto`` tries them. Another kind, such as VAAPI or QSV, is one more line."""


@dataclass(frozen=True, slots=True)
class DecoderChoice:
    """The hardware decoder of a source, ``None`` for software, and the reason; ``required``: software is no option."""

    hardware: HardwareDecoder | None
    reason: str
    required: bool = False


SOFTWARE = DecoderChoice(None, "asked for")
