"""The map from the infrared image to the visible one, computed once and applied to every frame.

A :class:`RemapWarp` satisfies the ``fusepipe.core.frames.Warp`` protocol: for every visible pixel it holds
the position in the infrared image as two planes of float32, for which OpenCV 5's remap is fastest (0.4 to 0.8
times the duration with fixed-point maps, which were fastest in OpenCV 4), and a mask of the infrared field of
view. Warps are immutable; a new calibration is a new warp.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusepipe.calibration.lens import EXACT_PX, FAR_RADIUS, Lens, radius_limit
from fusepipe.calibration.matrix import Matrix3, check_matrix, check_size, rescale_matrix, scaling
from fusepipe.core.buffers import BufferPool
from fusepipe.core.errors import UsageError
from fusepipe.core.frames import Luma8, Pixels, Size

if TYPE_CHECKING:
    from fusepipe.calibration.board.stereo import Pose
    from fusepipe.calibration.file.model import Calibration

# Positions this far outside the image count as inside: rounding of the inverse, far below 1/32 pixel.
TOLERANCE_PX = 1e-4

# Shrinking by more than this leaves infrared pixels out unless they are averaged first.
SHRINK_LIMIT = 1.5

_ROWS_AT_ONCE = 32


class RemapWarp:
    """Infrared pixels to the visible camera's geometry by bilinear interpolation.

    ``matrix`` (3x3, or 2x3) takes an infrared pixel (x, y, 1) to a visible pixel, pixel centres at whole
    coordinates; sizes are (width, height). Where the infrared image is shrunk by more than 1.5 it is
    averaged over a box of that size first. Outside ``valid`` the nearest infrared edge pixel is repeated, so
    that filters and networks get no black frame.

    ``whole_view``: both cameras have exactly the same field of view, so that the outermost half pixel of the
    infrared image, which has a neighbour on one side only, counts as seen. ``lens`` is that of the infrared
    camera, where the matrix takes pixels that are free of its distortion.

    Raises :class:`UsageError` for a matrix that is singular or shows nothing of the infrared image.
    Safe to use from several threads.
    """

    def __init__(
        self,
        matrix: ArrayLike,
        infrared_size: Size,
        visible_size: Size,
        *,
        whole_view: bool = False,
        lens: Lens | None = None,
    ) -> None:
        self._infrared_size = check_size(infrared_size, "infrared")
        self._visible_size = check_size(visible_size, "visible")
        self._matrix = check_matrix(matrix, self._infrared_size, self._visible_size)
        self._matrix.flags.writeable = False
        self._set_map(*inverse_map(self._matrix, self._infrared_size, self._visible_size, whole_view, lens))

    def _set_map(
        self, x: NDArray[np.float32], y: NDArray[np.float32], seen: NDArray[np.bool_], box: tuple[int, int]
    ) -> None:
        """What :meth:`apply` needs: the infrared position of each visible pixel, and whether it is inside.

        ``x`` and ``y`` are taken over, and changed.
        """
        if not seen.any():
            raise UsageError(
                f"the calibration shows nothing of the {_text(self._infrared_size)} infrared image in the "
                f"{_text(self._visible_size)} visible one; it should take infrared (x, y, 1) to visible pixels"
            )
        self._box = box
        # A box of an even number of pixels is centred half a pixel before the pixel it is written to.
        x += np.float32(0.5 * (box[0] % 2 == 0))
        y += np.float32(0.5 * (box[1] % 2 == 0))
        self._x, self._y = x, y
        self._sampling_grid: NDArray[np.float32] | None = None
        self._buffers = BufferPool()
        self._valid: Luma8 | None = None
        if not seen.all():
            self._valid = seen.astype(np.uint8) * np.uint8(255)
            self._valid.flags.writeable = False
        digest = hashlib.sha256(repr((self._infrared_size, self._visible_size, box)).encode())
        for coordinates in (self._x, self._y):  # to 1/32 pixel, so that equal maps computed differently hash equally
            for top in range(0, len(coordinates), _ROWS_AT_ONCE):
                digest.update(np.rint(coordinates[top : top + _ROWS_AT_ONCE] * 32).astype(np.int32).data)
        digest.update(np.ascontiguousarray(seen).data)
        self._version = digest.hexdigest()[:12]

    @property
    def version(self) -> str:
        """12 hexadecimal digits of a hash over the map, the mask and the sizes."""
        return self._version

    @property
    def valid(self) -> Luma8 | None:
        """HxW uint8 at the visible size: 255 inside the infrared field of view, else 0; read-only.

        A pixel is valid when its position is between the centres of infrared pixels, so that nothing is
        extrapolated. ``None`` where all are.
        """
        return self._valid

    @property
    def sampling_grid(self) -> NDArray[np.float32]:
        """HxWx2 float32 at the visible size, read-only: (x, y) in pixels of the image from :meth:`prefilter`.

        :meth:`apply` samples at these coordinates.
        """
        if self._sampling_grid is None:
            grid = np.stack([self._x, self._y], axis=-1)
            grid.flags.writeable = False
            self._sampling_grid = grid
        return self._sampling_grid

    def prefilter(self, pixels: Pixels) -> Pixels:
        """Infrared HxW pixels, same dtype, box-averaged where a visible pixel covers more than 1.5 infrared ones."""
        if self._box == (1, 1):
            return pixels
        blurred: Pixels = cv2.blur(pixels, self._box, borderType=cv2.BORDER_REPLICATE)
        return blurred

    @property
    def scale(self) -> float:
        """Visible pixels that one infrared pixel covers along a side, at the centre of the infrared image."""
        x, y = ((side - 1) / 2 for side in self._infrared_size)
        u, v, w = self._matrix @ (x, y, 1.0)
        # derivatives of (u / w, v / w) by x and y
        rows = [(self._matrix[row, :2] - place * self._matrix[2, :2]) / w for row, place in ((0, u / w), (1, v / w))]
        return math.sqrt(abs(float(np.linalg.det(np.stack(rows)))))

    @property
    def matrix(self) -> Matrix3:
        """3x3 float64, infrared pixel to visible pixel, scaled to a largest value of 1; read-only."""
        return self._matrix

    @property
    def infrared_size(self) -> Size:
        """(width, height) of what :meth:`apply` takes."""
        return self._infrared_size

    @property
    def visible_size(self) -> Size:
        """(width, height) of what :meth:`apply` gives."""
        return self._visible_size

    def apply(self, pixels: Pixels) -> Pixels:
        """Infrared HxW uint8 or uint16 pixels, any stride, to the visible geometry.

        The array is the caller's; its memory is recycled once nobody refers to it.

        Raises :class:`UsageError` for pixels of another size or type than the warp was made for.
        """
        if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
            raise UsageError(f"a warp takes HxW uint8 or uint16; got {pixels.dtype} of shape {pixels.shape}")
        size = (pixels.shape[1], pixels.shape[0])
        if size != self._infrared_size:
            raise UsageError(
                f"this warp is for {_text(self._infrared_size)} infrared pixels, the image has {_text(size)}"
            )
        warped: Pixels = self._buffers.take(self._x.shape, pixels.dtype)
        cv2.remap(
            self.prefilter(pixels),
            self._x,
            self._y,
            cv2.INTER_LINEAR,
            dst=warped,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return warped


class LensWarp(RemapWarp):
    """The same for two cameras with lenses, and the plane at ``plane_distance_m`` from the visible camera.

    For every visible pixel: undistorted by the visible lens, intersected with the plane, projected into the
    infrared camera, distorted by the infrared lens. The visible image is unchanged, so nothing needs
    to be rectified; the epipolar geometry is in the map. ``matrix`` is the plane's homography without
    the distortions; ``adjust`` (3x3, visible pixel to visible pixel) moves the result, for drift.
    """

    def __init__(
        self, infrared: Lens, visible: Lens, pose: Pose, plane_distance_m: float, adjust: Matrix3 | None = None
    ) -> None:
        self._infrared_size = check_size(infrared.size, "infrared")
        self._visible_size = check_size(visible.size, "visible")
        from fusepipe.calibration.board.stereo import plane_homography

        homography = plane_homography(infrared, visible, pose, plane_distance_m)
        if adjust is not None:
            homography = adjust @ homography
        self._matrix = check_matrix(homography, self._infrared_size, self._visible_size)
        self._matrix.flags.writeable = False
        x, y, seen = _lens_map(infrared, visible, pose, plane_distance_m, adjust)
        self._set_map(x, y, seen, _box(np.asarray(np.linalg.inv(self._matrix), np.float64), seen))


def _lens_map(
    infrared: Lens, visible: Lens, pose: Pose, distance_m: float, adjust: Matrix3 | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """As :func:`inverse_map`, through both lenses."""
    (ir_w, ir_h), (vis_w, vis_h) = infrared.size, visible.size
    map_x, map_y = np.empty((2, vis_h, vis_w), np.float32)
    seen = np.empty((vis_h, vis_w), np.bool_)
    back = None if adjust is None else np.linalg.inv(adjust)
    limit, visible_limit, t = radius_limit(infrared), radius_limit(visible), TOLERANCE_PX
    for top in range(0, vis_h, _ROWS_AT_ONCE):
        rows = slice(top, min(top + _ROWS_AT_ONCE, vis_h))
        v, u = np.mgrid[rows, 0:vis_w].astype(np.float64)
        pixels = np.stack([u.ravel(), v.ravel()], axis=1)
        if back is not None:
            moved = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ back.T
            pixels = moved[:, :2] / moved[:, 2:]
        rays, known = _known_rays(visible, visible_limit, pixels)
        points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1) * distance_m
        there = (points - pose.translation_m) @ pose.rotation  # rows: R^T (X - t)
        nearest_m = 1e-6 * distance_m
        positions, sees = _projected(infrared, limit, there[:, :2] / np.maximum(there[:, 2:], nearest_m))
        x, y = positions.T
        inside = (
            known & sees & (there[:, 2] > nearest_m) & (x >= -t) & (x <= ir_w - 1 + t) & (y >= -t) & (y <= ir_h - 1 + t)
        )
        shape = seen[rows].shape
        seen[rows] = inside.reshape(shape)
        map_x[rows] = np.clip(x, -1.0, ir_w).reshape(shape)
        map_y[rows] = np.clip(y, -1.0, ir_h).reshape(shape)
    return map_x, map_y, seen


def _known_rays(lens: Lens, limit: float, pixels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Nx2 pixels to Nx2 rays, and which of them the lens model explains, whose radius grows up to ``limit``.

    No ray of the model reaches the others, and the search for one ends anywhere: they get that of a lens without
    distortion.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # where the search diverges
        rays = lens.rays(pixels)
        missed_px = np.abs(lens.project(rays) - pixels).max(axis=1)
    known = (missed_px < EXACT_PX) & (np.hypot(rays[:, 0], rays[:, 1]) < limit)
    return np.where(known[:, None], rays, (pixels - (lens.cx, lens.cy)) / (lens.fx, lens.fy)), known


def _projected(lens: Lens, limit: float, rays: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Nx2 rays to Nx2 pixels, and which the lens model covers: those within the radius ``limit``.

    Beyond, the model folds back, and the position is that of the last ray in the same direction, so that the nearest
    edge of the view is repeated there.
    """
    radius = np.hypot(rays[:, 0], rays[:, 1])
    sees = radius < limit
    last = min(limit, FAR_RADIUS)
    return lens.project(rays * np.where(sees, 1.0, last / np.maximum(radius, last))[:, None]), sees


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def inverse_map(
    matrix: Matrix3, infrared_size: Size, visible_size: Size, whole_view: bool = False, lens: Lens | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], tuple[int, int]]:
    """For every visible pixel its position (x, y) in the infrared image, whether it is inside, and the box.

    The box is the (width, height) in infrared pixels to average before sampling, 1 for none. With a ``lens``
    the matrix takes infrared pixels without its distortion.
    """
    (ir_w, ir_h), (vis_w, vis_h) = infrared_size, visible_size
    back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    map_x, map_y = np.empty((2, vis_h, vis_w), np.float32)
    seen = np.empty((vis_h, vis_w), np.bool_)
    t = TOLERANCE_PX + (0.5 if whole_view else 0.0)
    u = np.arange(vis_w, dtype=np.float64)
    horizon = 1e-9 * np.abs(back[2]).max()
    limit = None if lens is None else radius_limit(lens)
    # some rows at a time stay in the processor's cache: large images are built several times quicker
    for top in range(0, vis_h, _ROWS_AT_ONCE):
        rows = slice(top, min(top + _ROWS_AT_ONCE, vis_h))
        v = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None]
        x, y, w = (row[0] * u + (row[1] * v + row[2]) for row in back)
        # The matrix has positive w at the infrared centre, and w of the inverse is its reciprocal: what
        # is not positive is behind the camera (or on its horizon).
        front = w > horizon
        w = np.maximum(w, horizon)  # what is behind keeps its direction, and gets the edge on its side
        x /= w
        y /= w
        if lens is not None and limit is not None:
            rays = np.stack([((x - lens.cx) / lens.fx).ravel(), ((y - lens.cy) / lens.fy).ravel()], axis=1)
            positions, sees = _projected(lens, limit, rays)
            x, y = positions.T.reshape(2, *x.shape)
            front &= sees.reshape(x.shape)
        seen[rows] = front & (x >= -t) & (x <= ir_w - 1 + t) & (y >= -t) & (y <= ir_h - 1 + t)
        # positions far outside would wrap around in 16 bits, and the border repeats anyway
        map_x[rows] = np.clip(x, -1.0, ir_w)
        map_y[rows] = np.clip(y, -1.0, ir_h)
    return map_x, map_y, seen, _box(back, seen)


def _box(back: Matrix3, seen: NDArray[np.bool_]) -> tuple[int, int]:
    """How many infrared pixels across and down one visible pixel covers: the median over those seen."""
    step = max(1, math.isqrt(seen.size // 16384))
    v, u = np.nonzero(seen[::step, ::step])
    if not u.size:
        return 1, 1
    x, y, w = back @ np.stack([u * step, v * step, np.ones_like(u)])
    box = []
    for position, row in ((x / w, back[0]), (y / w, back[1])):
        # derivative of (row . p) / (back[2] . p) along the visible x and y
        across = (row[0] - position * back[2, 0]) / w
        down = (row[1] - position * back[2, 1]) / w
        shrink = float(np.median(np.hypot(across, down)))
        box.append(round(shrink) if shrink > SHRINK_LIMIT else 1)
    return box[0], box[1]


def size_warp(infrared_size: Size, visible_size: Size) -> RemapWarp | None:
    """The stretch of one image to the size of the other, ``x_v = (x_i + 0.5) s - 0.5`` along each axis.

    For cameras with the same field of view; all of the result is valid. ``None`` where the sizes are
    equal.
    """
    infrared_size, visible_size = check_size(infrared_size, "infrared"), check_size(visible_size, "visible")
    if infrared_size == visible_size:
        return None
    return RemapWarp(scaling(infrared_size, visible_size), infrared_size, visible_size, whole_view=True)


def build_warp(
    calibration: Calibration | None,
    infrared_size: Size,
    visible_size: Size,
    plane_distance_m: float | None = None,
    adjust: Matrix3 | None = None,
) -> RemapWarp | None:
    """The warp of a rig whose cameras deliver images of these sizes (width, height).

    Without a calibration, and for one of kind ``identity``, the infrared image is stretched to the
    visible size. A matrix is rescaled from the sizes it was made at. ``plane_distance_m`` replaces the
    calibration's own. ``adjust`` (3x3, visible pixel to visible pixel) moves the registered image: a
    correction of drift. ``None`` for the identity. Raises :class:`UsageError` where the
    calibration cannot serve these sizes or this distance.
    """
    infrared_size, visible_size = check_size(infrared_size, "infrared"), check_size(visible_size, "visible")
    if calibration is None or calibration.kind == "identity":
        if calibration is not None:
            made_ir, made_vis = calibration.infrared.size, calibration.visible.size
            rescale_matrix(np.eye(3), made_ir, made_vis, infrared_size, visible_size)  # refuses another shape
        if plane_distance_m is not None:
            raise UsageError(
                "plane_distance needs a calibration that knows where the cameras are: make one with "
                "'fusepipe calibrate board'"
            )
        if adjust is None:
            return size_warp(infrared_size, visible_size)
        return RemapWarp(adjust @ scaling(infrared_size, visible_size), infrared_size, visible_size)
    made_ir, made_vis = calibration.infrared.size, calibration.visible.size
    matrix = rescale_matrix(calibration.matrix3(plane_distance_m), made_ir, made_vis, infrared_size, visible_size)
    if calibration.kind == "stereo":
        distance = plane_distance_m or calibration.plane_distance_m
        assert distance is not None
        infrared, visible = calibration.lenses()
        return LensWarp(infrared.at(infrared_size), visible.at(visible_size), calibration.rig_pose(), distance, adjust)
    if adjust is not None:
        matrix = adjust @ matrix
    lens = calibration.infrared_lens()
    if lens is not None:
        return RemapWarp(matrix, infrared_size, visible_size, lens=lens.at(infrared_size))
    if infrared_size == visible_size and np.array_equal(matrix, np.eye(3)):
        return None
    return RemapWarp(matrix, infrared_size, visible_size)
