"""The static street: sky, houses, trees, lamps, pavements and road, for both bands.

Heights and widths are world units (see ``truth``); the ground is laid out in metres, seen by a
camera 3.2 m above it: ``Z`` metres away, ``X`` metres to the right. The houses stand on the background
plane, 34 m away.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from fusepipe.core.frames import Band
from fusepipe.pipeline.sources.synthetic.drawing import Canvas, Colour, Floats, Paint, Point, fractal, limb

HORIZON = -20.0
"""Height of the horizon in world units."""
BASE = 40.0
"""Where the houses meet the ground: the background plane."""
NEAREST = 240.0
"""The nearest ground of a 4:3 image, which has the full parallax."""
CAMERA_HEIGHT_M = 3.2
FOCAL_PX = 640.0

LAMPS = (-258.0, 4.0, 204.0)
_LAMP_FOOT, _LAMP_HEAD = 47.0, -62.0
_AMBIENT = np.array([0.15, 0.18, 0.27], np.float32)  # moonlight and city sky, R, G, B
_LAMPLIGHT = np.array([0.80, 0.66, 0.44], np.float32)


def foot(z_m: float) -> float:
    """World y of the ground ``z_m`` metres away."""
    return HORIZON + FOCAL_PX * CAMERA_HEIGHT_M / z_m


def units_per_metre(y: float) -> float:
    """World units per metre of an object on the ground at world ``y``."""
    return (y - HORIZON) / CAMERA_HEIGHT_M


def ground(x_m: float, z_m: float) -> Point:
    """The world point of a point on the ground."""
    return FOCAL_PX * x_m / z_m, foot(z_m)


def nearness(y: float) -> float:
    """The part of the parallax that ground at ``y`` has: 0 at the houses, 1 nearest (linear, as for any plane)."""
    return max(y - BASE, 0.0) / (NEAREST - BASE)


def lamplight(x: Floats, y: Floats) -> Floats:
    """How much of the lamps' light falls on world points by night, 0..1 or a little more; any shape."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for lamp in LAMPS:
        pool = np.exp(-(((x - lamp) / 95) ** 2) - ((y - 58) / np.where(y > 58, 46, 30)) ** 2)
        wall = np.exp(-(((x - lamp) / 62) ** 2) - ((y + 22) / np.where(y > -22, 62, 46)) ** 2)
        total += np.maximum(pool, 0.75 * wall)
    return total


def night_light(x: float, y: float) -> float:
    """The luma of an object at a ground point at night, as a share of its daylight luma."""
    lamps = sum(math.exp(-(((x - lamp) / 95) ** 2) - ((y - 58) / (46 if y > 58 else 30)) ** 2) for lamp in LAMPS)
    return float(_AMBIENT.mean()) + lamps * float(_LAMPLIGHT.mean())


def paint_street(canvas: Canvas) -> None:
    """Draws all static objects, back to front."""
    _sky(canvas)
    _distance(canvas)
    for house in _HOUSES:
        _house(canvas, *house)
    _shops(canvas)
    _ground(canvas)
    for x in LAMPS:
        _lamp(canvas, x)
    for seed, x, size in ((1, -304.0, 1.05), (2, 50.0, 0.72), (3, 238.0, 1.15)):
        _tree(canvas, seed, x, size)
    canvas.standing = None


def _sky(canvas: Canvas) -> None:
    rows, columns = canvas.everywhere
    top, bottom = (-240 - canvas.top) * canvas.scale, (10 - canvas.top) * canvas.scale
    everywhere = np.ones(canvas.pixels.shape[1:], np.float32)
    if canvas.light == "day":
        sky = Paint(((104, 152, 206), (208, 222, 232)), (-5.5, 1.5))
    else:
        sky = Paint((0, 0, 0), (-7.0, -2.5), glow=(19, 22, 36))
    canvas.fill(rows, columns, everywhere, sky, (top, bottom))
    x, y = canvas.grid(rows, columns)
    clouds = np.clip(fractal(x / 150 + 7, y / 48 + 3, 5) * 1.7 - 0.12, 0, 1) * np.clip((20 - y) / 120, 0, 1)
    if canvas.light == "day":
        canvas.fill(rows, columns, clouds, Paint((246, 247, 248), 2.5, opacity=0.85), (top, bottom))
    else:
        canvas.fill(rows, columns, clouds, Paint((0, 0, 0), -2.0, glow=(34, 35, 46), opacity=0.6), (top, bottom))


def _distance(canvas: Canvas) -> None:
    """Far trees in the gaps between the houses."""
    random = np.random.Generator(np.random.Philox(key=5))
    for x in np.arange(-130, 300, 9.0):
        top = 2 + 16 * random.random()
        canvas.ellipse((float(x), top), 13, 16, Paint(((128, 146, 140), (110, 130, 118)), 5.0))
    canvas.rect(-140, 20, 300, BASE, Paint((112, 124, 108), 5.5))


# left, right, eaves, wall colour, temperature by day, brick texture, columns of windows
_House = tuple[float, float, float, Colour, float, bool, int]
_HOUSES: tuple[_House, ...] = (
    (-440.0, -262.0, -142.0, (156, 98, 80), 13.0, True, 5),
    (-262.0, -128.0, -110.0, (212, 198, 172), 9.6, False, 4),
    (-106.0, 54.0, -166.0, (170, 174, 176), 7.6, False, 5),
    (54.0, 192.0, -116.0, (203, 170, 118), 11.6, False, 4),
    (272.0, 450.0, -178.0, (150, 112, 96), 12.0, True, 5),
)
_STOREY = 56.0


def _house(
    canvas: Canvas, left: float, right: float, eaves: float, colour: Colour, temp: float, brick: bool, columns: int
) -> None:
    night = canvas.light == "night"
    temp = temp - 5.5 if night else temp
    dark: Colour = (colour[0] * 0.72, colour[1] * 0.72, colour[2] * 0.74)
    wall = Paint((colour, dark), (temp - 0.6, temp + 0.8), grain=0.10 if brick else 0.05, mottle=0.13, warmth=1.1)
    roof = Paint(((112, 110, 114), (84, 84, 92)), (temp - 4, temp - 2), grain=0.15)
    middle = (left + right) / 2
    # A chimney, its flue warm.
    chimney = left + 0.28 * (right - left)
    canvas.rect(chimney - 6, eaves - 42, chimney + 6, eaves - 10, Paint((132, 94, 84), 14.0, grain=0.15))
    canvas.rect(chimney - 7.5, eaves - 45, chimney + 7.5, eaves - 41, Paint((98, 84, 80), 27.0))
    canvas.poly([(left - 4, eaves), (left + 14, eaves - 26), (right - 14, eaves - 26), (right + 4, eaves)], roof)
    canvas.rect(left, eaves, right, BASE, wall)
    if brick:
        for y in np.arange(eaves + 4, BASE, 4.0):
            canvas.rect(left, y, right, y + 0.7, Paint((92, 74, 68), opacity=0.28))
    # Light from the left: a bright and a shaded edge.
    canvas.rect(left, eaves, left + 2.5, BASE, Paint((255, 250, 236), opacity=0.22))
    canvas.rect(right - 5, eaves, right, BASE, Paint((30, 32, 44), opacity=0.28))
    canvas.rect(left - 4, eaves - 2, right + 4, eaves + 4, Paint(((232, 226, 214), (170, 164, 156)), temp - 1))
    canvas.rect(left, eaves + 4, right, eaves + 9, Paint((24, 26, 34), opacity=0.30))
    storeys = int((BASE - eaves - 12) // _STOREY) + 1
    pitch = (right - left) / columns
    random = np.random.Generator(np.random.Philox(key=int(700 + middle)))  # who is at home
    for storey in range(1, storeys):
        y = BASE - storey * _STOREY
        canvas.rect(left, y + 3, right, y + 6, Paint((238, 232, 220), temp + 1.0, opacity=0.35))
        for column in range(columns):
            lived = int(random.integers(0, 11))
            _window(canvas, left + (column + 0.5) * pitch, y - 38, min(22.0, pitch * 0.62), 30.0, lived, temp)


def _window(canvas: Canvas, x: float, y: float, width: float, height: float, lived: int, temp: float) -> None:
    """A sash window; ``lived`` (0..10) selects its temperature and whether the light is on."""
    half = width / 2
    warm = temp + (6.5 if lived in (1, 5, 8) else 2.5 if lived == 2 else -1.5)
    canvas.rect(x - half - 2, y - 2, x + half + 2, y + height + 2, Paint((236, 232, 224), temp + 1.2))
    lit = (236.0, 190.0, 118.0) if lived in (1, 5, 8) else (24.0, 22.0, 22.0) if lived in (3, 9) else None
    glass = Paint(((142, 172, 198), (62, 78, 94)), (warm - 2.5, warm), glow=lit)
    canvas.rect(x - half, y, x + half, y + height, glass)
    # The sky mirrored in the pane, a curtain, and the bars: thermal glass shows none of them.
    canvas.poly([(x - half, y), (x, y), (x - half, y + height * 0.7)], Paint((214, 228, 238), opacity=0.38))
    if lived % 3 == 0 and lit is None:
        canvas.rect(x - half, y, x - half * 0.45, y + height, Paint((220, 214, 202), opacity=0.6))
    canvas.rect(x - 0.7, y, x + 0.7, y + height, Paint((228, 224, 216)))
    canvas.rect(x - half, y + height * 0.42, x + half, y + height * 0.42 + 1.3, Paint((228, 224, 216)))
    canvas.rect(x - half - 4, y + height + 2, x + half + 4, y + height + 5, Paint((198, 192, 184), temp + 1.8))
    canvas.rect(x - half - 3, y + height + 5, x + half + 3, y + height + 8, Paint((20, 22, 30), opacity=0.28))


def _shops(canvas: Canvas) -> None:
    """Ground floors: doors, shop windows, awnings and painted signs that only the visible camera reads."""
    night = canvas.light == "night"
    cool = -4.0 if night else 0.0
    for left, right, words, board in (
        (-254.0, -136.0, "BAKERY", (54, 84, 82)),
        (-98.0, 46.0, "CAFE ARGUS", (122, 44, 44)),
        (62.0, 184.0, "BOOKS", (46, 62, 98)),
    ):
        warm = 16.5 if words == "BAKERY" else 12.5
        canvas.rect(left, -16, right, BASE, Paint(((70, 66, 64), (52, 50, 50)), 9.5 + cool))
        canvas.rect(left, -16, right, -3, Paint(board, 8.8 + cool))
        canvas.text(
            words, left + (34 if words == "BOOKS" else 16), -5.6, 7.8, Paint((240, 230, 204), glow=(120, 112, 92))
        )
        door = right - 26
        lit = (226.0, 178.0, 112.0) if words != "BOOKS" else (40.0, 36.0, 34.0)
        pane = Paint(((120, 146, 160), (60, 64, 66)), (warm + cool - 1, warm + cool + 1), glow=lit)
        for start in np.linspace(left + 5, door - 8, 3)[:-1]:
            stop = start + (door - 8 - left - 5) / 2 - 3
            canvas.rect(float(start), 2, float(stop), 32, pane)
            canvas.poly(
                [(start, 2), (start + 16, 2), (start + 4, 32), (start, 32)], Paint((220, 232, 240), opacity=0.25)
            )
        canvas.rect(door, 0, door + 19, BASE, Paint(((96, 72, 56), (74, 54, 44)), warm + cool))
        canvas.rect(door + 3, 4, door + 16, 24, pane)
    for stripe in range(18):  # the awning of the café
        x, shade = -100 + stripe * 8.2, (206, 198, 182) if stripe % 2 else (150, 56, 54)
        canvas.poly([(x, -3), (x + 8.2, -3), (x + 7.6, 9), (x - 0.6, 9)], Paint(shade, 6.5 + cool))
    for left, temp in ((-420.0, 9.5), (300.0, 9.0)):
        canvas.rect(left, 24, left + 150, BASE, Paint((110, 104, 100), temp + cool, grain=0.1))
        canvas.rect(left + 60, -8, left + 84, BASE, Paint(((66, 86, 74), (46, 60, 54)), temp + cool + 4))
        for x in (18.0, 100.0, 130.0):
            _window(canvas, left + x, -14, 20, 30, 4, temp + cool)
    # The alley: a heating pipe down the wall, lagged and painted like it.
    canvas.rect(-128, -70, -106, BASE, Paint(((118, 112, 108), (58, 56, 58)), 6.5 + cool))
    canvas.rect(-120, -66, -116.5, BASE - 2, Paint((104, 99, 96), 30.0))


def _ground(canvas: Canvas) -> None:
    night = canvas.light == "night"
    cool = -4.0 if night else 0.0
    first = max(0, int((BASE - canvas.top) * canvas.scale))
    rows, columns = slice(first, canvas.size[1]), slice(0, canvas.size[0])
    if first >= canvas.size[1]:
        return
    x, y = canvas.grid(rows, columns)
    y = np.maximum(y, BASE)
    z = np.float32(FOCAL_PX * CAMERA_HEIGHT_M) / (y - HORIZON)
    across = x * z / FOCAL_PX
    wide = fractal(across / 2.2, z / 2.2, 4)
    # Grain finer than a pixel far away would only shimmer: it fades with distance.
    fine = fractal(across * 4, z * 4, 3) * np.clip(14 / z, 0.25, 1)
    road, pave = (z < 28.6) & (z > 14.2), (z >= 28.6) | ((z <= 14.2) & (z > 8.6))
    if canvas.band is Band.INFRARED:
        temp = np.where(road, 10.6, np.where(pave, 8.4, 5.6)) + 1.0 * wide + 0.25 * fine
        # District heating under the near pavement, seen by its warmth alone.
        temp += 7.5 * np.exp(-(((z - 13.0 - 0.03 * across) / 0.32) ** 2))
        # Wheel tracks.
        temp += 1.3 * road * (np.exp(-(((z - 17.0) / 0.7) ** 2)) + np.exp(-(((z - 24.5) / 0.9) ** 2)))
        canvas.pixels[0, rows, columns] = temp + cool
        canvas.pixels[1, rows, columns] = 1
    else:
        shade = 1 + 0.16 * wide + 0.20 * fine
        colours = np.array([[98, 99, 104], [168, 162, 152], [104, 124, 72]], np.float32)
        kind = np.where(road, 0, np.where(pave, 1, 2))
        for channel in range(3):
            canvas.pixels[channel, rows, columns] = colours[:, channel][kind] * shade
        canvas.pixels[3, rows, columns] = 1
        canvas.glow[:, rows, columns] = 0
    _markings(canvas, cool)


def _strip(x0: float, x1: float, far: float, near: float) -> list[Point]:
    """A rectangle on the ground from metres."""
    return [ground(x0, far), ground(x1, far), ground(x1, near), ground(x0, near)]


def _markings(canvas: Canvas, cool: float) -> None:
    """Slabs, kerbs, painted lines, a crossing, a manhole."""
    seam = Paint((96, 92, 88), opacity=0.45)
    for x in np.arange(-40, 40, 1.2):
        canvas.poly(_strip(x, x + 0.035, 14.0, 8.6), seam)
        canvas.poly(_strip(x, x + 0.05, 34.13, 29.0), seam)
    for z in (13.0, 11.8, 10.6, 9.4):
        canvas.poly(_strip(-40, 40, z + 0.02, z - 0.02), seam)
    canvas.poly(_strip(-60, 60, 29.0, 28.7), Paint((190, 186, 178), 9.0 + cool))
    canvas.poly(_strip(-60, 60, 28.7, 28.3), Paint((62, 62, 64), 9.5 + cool))
    canvas.poly(_strip(-60, 60, 14.5, 14.2), Paint((66, 66, 68), 9.5 + cool))
    canvas.poly(_strip(-60, 60, 14.2, 13.95), Paint((196, 192, 184), 9.0 + cool))
    canvas.poly(_strip(-60, 60, 8.8, 8.55), Paint((150, 145, 136), 8.0 + cool))
    line = Paint((222, 220, 210), 9.9 + cool, grain=0.12, opacity=0.85)
    for x in np.arange(-41, 40, 6.0):
        canvas.poly(_strip(x, x + 3, 20.35, 20.15), line)
    for z in np.arange(15.4, 27.8, 1.15):
        canvas.poly(_strip(2.2, 5.4, z + 0.3, z - 0.3), line)
    x, y = ground(-3.6, 15.3)
    canvas.ellipse((x, y), 17, 4.4, Paint((58, 58, 62), 19.0 + cool / 2))
    canvas.ellipse((x, y), 14, 3.5, Paint((84, 84, 88), 21.0 + cool / 2, grain=0.3))


def _lamp(canvas: Canvas, x: float) -> None:
    """A street lamp; its head is hot and bright by night, cool by day."""
    canvas.standing = _LAMP_FOOT
    night = canvas.light == "night"
    metal = Paint((58, 64, 66), 3.0 if night else 7.0)
    canvas.poly(limb((x, _LAMP_FOOT), (x, _LAMP_HEAD), 2.0, 1.2), metal)
    canvas.poly(limb((x, _LAMP_HEAD), (x + 11, _LAMP_HEAD - 5), 1.1, 0.9), metal)
    canvas.ellipse((x + 15, _LAMP_HEAD - 4.5), 7, 2.6, metal)
    if night:
        canvas.soft((x + 15, _LAMP_HEAD - 2), 30, 27, Paint(glow=(255, 222, 150), opacity=0.55), power=3.0)
        canvas.ellipse((x + 15, _LAMP_HEAD - 3), 5.2, 2.2, Paint((255, 250, 232), 38.0, glow=(255, 250, 232)))


def _tree(canvas: Canvas, seed: int, x: float, size: float) -> None:
    """A street tree: a trunk and clumps of leaves, dark below and bright above."""
    canvas.standing = y0 = 50.0
    cool = -2.5 if canvas.light == "night" else 0.0
    random = np.random.Generator(np.random.Philox(key=100 + seed))
    canvas.soft((x + 8, y0), 34 * size, 4.5, Paint((24, 26, 32), opacity=0.5))
    bark = Paint(((92, 76, 62), (70, 58, 50)), 7.6 + cool, grain=0.25)
    canvas.poly(limb((x, y0), (x + 1.5, y0 - 52 * size), 4.2 * size, 2.6 * size), bark)
    for side in (-1, 1):
        canvas.poly(limb((x + 1, y0 - 40 * size), (x + side * 18 * size, y0 - 76 * size), 2.2, 1.2), bark)
    for layer in range(170):
        # From the dark inside to the sunlit outside at the upper left.
        part = layer / 170
        angle, reach = random.random() * 2 * np.pi, np.sqrt(random.random())
        cx = x + size * (reach * 37 * np.cos(angle) - 5 * part)
        cy = y0 - size * (84 + 2 + reach * 40 * np.sin(angle) + 6 * part)
        bright = (0.62 + 0.5 * part) * (0.9 + 0.2 * random.random()) - 0.0032 * (cy - (y0 - 84 * size))
        leaf = Paint((84 * bright, 112 * bright, 58 * bright), 6.6 + cool + 0.9 * part)
        canvas.ellipse((float(cx), float(cy)), size * (4 + 6 * random.random()), size * (3 + 5 * random.random()), leaf)


def lit_image(canvas: Canvas) -> Floats:
    """The painted street as HxWx3 R, G, B of 0..255 or HxW °C; by night the lamps light it and it glows."""
    if canvas.band is Band.INFRARED:
        return np.asarray(canvas.pixels[0], np.float32)
    image = cv2.merge(list(canvas.pixels[:3]))
    if canvas.light == "night":
        # lamplight and bloom are smooth: rendered at low resolution and upscaled
        small = (-(-canvas.size[0] // 8), -(-canvas.size[1] // 8))
        x = canvas.left + (np.arange(small[0], dtype=np.float32) * 8 + 3.5) / canvas.scale
        y = canvas.top + (np.arange(small[1], dtype=np.float32) * 8 + 3.5) / canvas.scale
        light = lamplight(x[None], y[:, None])[..., None] * _LAMPLIGHT + _AMBIENT
        image *= _enlarged(light, canvas)
        glow = cv2.merge(list(canvas.glow))
        image += glow
        bloom = cv2.resize(glow, small, interpolation=cv2.INTER_AREA)
        image += 0.30 * _enlarged(cv2.GaussianBlur(bloom, (0, 0), 9 * canvas.scale / 8), canvas)
    return np.asarray(np.clip(image, 0, 255), np.float32)


def _enlarged(small: Floats, canvas: Canvas) -> Floats:
    """Upscales an image from an eighth of the size of the canvas."""
    big = cv2.resize(small, (small.shape[1] * 8, small.shape[0] * 8), interpolation=cv2.INTER_LINEAR)
    return np.asarray(big[: canvas.size[1], : canvas.size[0]], np.float32)
