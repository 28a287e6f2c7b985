"""A detector on one set of pairs: what it sees in the sources and in each method's coloured output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from fusepipe.core import image_files
from fusepipe.core.frames import Luma8
from fusepipe.core.text import shortlist
from fusepipe.evaluation.detection.labels import CLASSES, class_map, read_labels
from fusepipe.evaluation.detection.score import PERSON, DetectionScore, ImageDetections, detection_score, sure_persons
from fusepipe.evaluation.detection.yolox import Bgr, Box, YoloxDetector


class SetDetection:
    """The detector on the pairs of one folder, with the labels below ``labels/`` where there are any.

    ``files`` are the (infrared, visible) images by name; ``maps`` is :func:`labels.parse_maps`'s.
    ``infrared`` gives the HxW luma of the infrared image of a name.
    """

    def __init__(
        self,
        detector: YoloxDetector,
        name: str,
        files: Mapping[str, tuple[Path, ...]],
        maps: Mapping[str, Mapping[int, str]],
        infrared: Callable[[str], Luma8],
    ) -> None:
        self._detector, self._files, self._infrared = detector, files, infrared
        folder = next(iter(files.values()))[0].parent.parent / "labels"
        found = {path.stem: path for path in sorted(folder.glob("*.txt")) if path.name != CLASSES}
        self._labels = {stem: path for stem, path in found.items() if stem in files}
        self._classes = class_map(folder, name, maps, detector.names) if self._labels else {}
        self._wanted = {PERSON, *self._classes.values()}
        self._sources: dict[str, tuple[list[Box], list[Box]]] = {}
        self._truth: dict[str, list[Box]] = {}
        self._found: dict[str, list[ImageDetections]] = {}
        self.notes = [f"{len(self._labels)} of {len(files)} pairs have labels"] if self._labels else []
        if self._labels and self._classes:
            counted = ", ".join(f"{number} {label}" for number, label in sorted(self._classes.items()))
            self.notes.append(f"labels: {counted}; other classes are ignored")
        lone = [stem for stem in found if stem not in files]
        if lone and self._labels:
            self.notes.append(f"no pair for {len(lone)} of the label files: {shortlist(lone)}")

    def read_sources(self) -> None:
        """Detects in both sources of every pair, and reads the labels."""
        for name, (_, vis_file) in self._files.items():
            infrared = np.asarray(cv2.cvtColor(self._infrared(name), cv2.COLOR_GRAY2BGR), np.uint8)
            visible = _bgr(vis_file)
            boxes = (self._detector.detect(infrared, self._wanted), self._detector.detect(visible, self._wanted))
            self._sources[name] = boxes
            if name in self._labels:
                size = (visible.shape[0], visible.shape[1])
                self._truth[name] = read_labels(self._labels[name], self._classes, size)
        for source, view in enumerate(("infrared", "visible")):
            self._found[view] = [self._case(name, self._sources[name][source]) for name in self._files]

    def add(self, method: str, name: str, fused: Luma8) -> None:
        """Detects in one fused image, coloured by the visible one."""
        found = self._detector.detect(with_visible_chroma(fused, _bgr(self._files[name][1])), self._wanted)
        self._found.setdefault(method, []).append(self._case(name, found))

    def remove(self, method: str) -> None:
        """Removes what was found for a method that failed."""
        self._found.pop(method, None)

    def images(self) -> dict[str, Sequence[ImageDetections]]:
        """By row: the two sources, then the methods in their order."""
        return dict(self._found)

    def _case(self, name: str, found: Sequence[Box]) -> ImageDetections:
        return ImageDetections(found, self._truth.get(name), sure_persons(*self._sources[name]))


def score_rows(sets: Sequence[Mapping[str, Sequence[ImageDetections]]]) -> dict[str, DetectionScore]:
    """The score of each row over the images of all given sets together, of the rows that all sets have."""
    common = [row for row in sets[0] if all(row in one for one in sets)]
    return {row: detection_score([image for one in sets for image in one[row]]) for row in common}


def with_visible_chroma(luma: Luma8, bgr: Bgr) -> Bgr:
    """HxWx3: fused luma with the chroma of the visible image (BT.601, full range)."""
    planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb)
    planes[..., 0] = luma
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YCrCb2BGR), np.uint8)


def _bgr(path: Path) -> Bgr:
    """HxWx3 B, G, R of an 8-bit image."""
    pixels = image_files.read_pixels(path)
    return np.asarray(pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
