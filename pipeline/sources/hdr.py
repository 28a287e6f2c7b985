"""Video of high dynamic range (HLG and PQ in BT.2020), as phones record it, to 8-bit BT.709.

Light is mapped as players do: to display light in units of the reference white of 203 cd/m² (ITU-R BT.2408), to the
primaries of BT.709 (BT.2087), by a tone curve that keeps the dark and middle tones and rolls off the highlights up to
1000 cd/m², and to the gamma of 2.4 of standard displays (BT.1886). That takes place at the size of the chroma planes;
the luma has a table of its own, and gets from there only the difference that its colour makes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusepipe.core.frames import Pixels, Plane

Transfer = Literal["HLG", "PQ"]

TRANSFERS: dict[int, Transfer] = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic
PEAK = 1000 / 203  # the brightest light that is told apart, in units of the reference white
_KNEE = 0.3  # of the tone curve, in the same units; below it, light is kept
_STEPS = 1 << 12  # of the tables of curves; the index of a light is the square root of it
_GAMMA = 2.4
_LUMA_2020 = (np.float32(0.2627), np.float32(0.6780), np.float32(0.0593))
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # ITU-R BT.2087, table 4

Floats = NDArray[np.float32]
Colours = tuple[Floats, Floats, Floats]
"""Planes of red, green and blue."""


def hdr_planes(planes: tuple[Plane, ...], transfer: Transfer) -> tuple[Plane, ...]:
    """(Y, Cb, Cr) of BT.2020, uint8 or uint16, to the same in BT.709: uint8, limited range, the same subsampling."""
    luma, blue, red = planes
    limited = luma.value_range == "limited"
    small: Pixels = cv2.resize(luma.pixels, (blue.width, blue.height), interpolation=cv2.INTER_AREA)
    colours = _rgb_2020(small, blue.pixels, red.pixels, luma.bit_depth, limited=limited)
    y, cb, cr = _limited_709(_to_sdr(_to_light(colours, transfer)))
    table = _luma_table(luma.bit_depth, limited, transfer)
    # what the colour of the samples adds to the table's value of a grey of the same luma
    added = cv2.resize(y - table[small], (luma.width, luma.height), interpolation=cv2.INTER_LINEAR)
    return tuple(Plane(_bytes(values), 8, "limited") for values in (table[luma.pixels] + added, cb, cr))


def _bytes(values: Floats) -> Pixels:
    return np.asarray(cv2.convertScaleAbs(np.maximum(values, 0)), np.uint8)  # which rounds and saturates


def _rgb_2020(y: Pixels, cb: Pixels, cr: Pixels, bit_depth: int, *, limited: bool) -> Colours:
    """R'G'B' from 0 to 1 (BT.2020, non-constant luminance)."""
    unit = np.float32(1 << (bit_depth - 8))
    low, span, chroma_span = (16, 219, 224) if limited else (0, 255, 255)
    luma = (y.astype(np.float32) / unit - low) / span
    blue, red = ((plane.astype(np.float32) / unit - 128) / chroma_span for plane in (cb, cr))
    r, b = luma + 1.4746 * red, luma + 1.8814 * blue
    g = (luma - _LUMA_2020[0] * r - _LUMA_2020[2] * b) / _LUMA_2020[1]
    return _limited_to_one(r), _limited_to_one(g), _limited_to_one(b)


def _limited_to_one(values: NDArray[np.floating]) -> Floats:
    return np.asarray(np.minimum(np.maximum(values, 0), 1), np.float32)  # several times as fast as np.clip


def _to_light(signal: Colours, transfer: Transfer) -> Colours:
    """Display light in units of the reference white, of R'G'B' from 0 to 1."""
    table = _light_table(transfer)
    r, g, b = (table[(plane * (_STEPS - 1) + 0.5).astype(np.uint16)] for plane in signal)
    if transfer == "PQ":
        return r, g, b
    # light of the scene; a display of 1000 cd/m² has a gamma of 1.2 in luminance (BT.2100, table 5)
    luminance = _LUMA_2020[0] * r + _LUMA_2020[1] * g + _LUMA_2020[2] * b
    gain = np.float32(PEAK) * np.power(np.maximum(luminance, 1e-6), np.float32(0.2))
    return r * gain, g * gain, b * gain


@lru_cache(maxsize=2)
def _light_table(transfer: Transfer) -> Floats:
    """Light of a signal from 0 to 1 in ``_STEPS``: PQ in units of the reference white, HLG of the scene from 0 to 1."""
    signal = np.linspace(0, 1, _STEPS)
    if transfer == "HLG":  # BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:  # BT.2100, table 4
        root = signal ** (1 / 78.84375)
        light = (
            (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125) * 10_000 / 203
        )
    return light.astype(np.float32)


def _to_sdr(light: Colours) -> Colours:
    """R'G'B' of BT.709 from 0 to 1; the tone curve of the largest of the three keeps the hue."""
    r, g, b = (np.maximum(row[0] * light[0] + row[1] * light[1] + row[2] * light[2], np.float32(0)) for row in _TO_709)
    curve, gamma = _curves()
    scale = curve[_index(np.maximum(np.maximum(r, g), b))]
    return gamma[_index(r * scale)], gamma[_index(g * scale)], gamma[_index(b * scale)]


def _index(light: Floats) -> NDArray[np.uint16]:
    """Of a light from 0 to ``PEAK`` in the tables of :func:`_curves`; more is the last one."""
    root = np.sqrt(np.minimum(light, np.float32(PEAK)) * np.float32(1 / PEAK))
    return (root * (_STEPS - 1) + 0.5).astype(np.uint16)


@lru_cache(maxsize=1)
def _curves() -> tuple[Floats, Floats]:
    """The factor of the tone curve, and the gamma of a standard display; of light by :func:`_index`.

    The curve is a Möbius transform with slope 1 at the knee that takes ``PEAK`` to 1.
    """
    light = np.linspace(0, 1, _STEPS) ** 2 * PEAK
    a = -(_KNEE**2) * (PEAK - 1) / (_KNEE**2 - 2 * _KNEE + PEAK)
    b = (_KNEE**2 - 2 * _KNEE * PEAK + PEAK) / (PEAK - 1)
    rolled = (b * b + 2 * b * _KNEE + _KNEE**2) / (b - a) * (light + a) / (light + b)
    toned = np.where(light <= _KNEE, light, rolled)
    factor = toned / np.maximum(light, 1e-9)
    factor[0] = 1.0
    return factor.astype(np.float32), (np.minimum(light, 1.0) ** (1 / _GAMMA)).astype(np.float32)


def _limited_709(colours: Colours) -> Colours:
    """Y, Cb and Cr of limited range, not rounded, of R'G'B' from 0 to 1."""
    r, g, b = colours
    y = np.float32(0.2126) * r + np.float32(0.7152) * g + np.float32(0.0722) * b
    return 16 + 219 * y, 128 + 224 / 1.8556 * (b - y), 128 + 224 / 1.5748 * (r - y)


@lru_cache(maxsize=8)
def _luma_table(bit_depth: int, limited: bool, transfer: Transfer) -> Floats:
    """The luma of grey, not rounded, by its sample."""
    samples = np.arange(1 << bit_depth, dtype=np.uint16)[None]
    neutral = np.full_like(samples, 128 << (bit_depth - 8))
    light = _to_light(_rgb_2020(samples, neutral, neutral, bit_depth, limited=limited), transfer)
    return np.asarray(_limited_709(_to_sdr(light))[0][0], np.float32)
