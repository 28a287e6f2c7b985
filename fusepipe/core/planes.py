"""Planes of images, and the types of their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Luma8 = NDArray[np.uint8]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
ValueRange = Literal["full", "limited"]
Matrix = Literal["bt601", "bt709", "bt2020"]
Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One image plane: ``pixels`` is HxW, uint8 or uint16, any row stride, read-only.

    ``bit_depth`` is the number of bits in use (8 for uint8; 9 to 16 for uint16).
    ``value_range`` is ``full`` (0..2^b-1) or ``limited`` (luma 16..235, chroma 16..240, times 2^(b-8)).
    ``device`` is where the memory is; CPU planes are NumPy views.
    """

    pixels: Pixels
    bit_depth: int = 8
    value_range: ValueRange = "full"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype not in (np.uint8, np.uint16) or not self.pixels.size:
            raise ValueError(
                f"a plane is a non-empty HxW array of uint8 or uint16; got {self.pixels.dtype} {self.pixels.shape}"
            )
        low, high = (8, 8) if self.pixels.dtype == np.uint8 else (9, 16)
        if not low <= self.bit_depth <= high:
            raise ValueError(f"{self.bit_depth = } does not fit {self.pixels.dtype}")
        if self.pixels.flags.writeable:
            view = self.pixels.view()
            view.flags.writeable = False
            object.__setattr__(self, "pixels", view)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.pixels.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.pixels.__dlpack_device__()
