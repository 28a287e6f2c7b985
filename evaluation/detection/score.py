"""Scores of detections: AP50 by class on labelled images, recall of persons on images without labels.

Without labels, the persons to find are those that the detector is sure of in the sources: in infrared, in visible, or
in either. That asks what fusion keeps, not what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fusepipe.evaluation.detection.yolox import Box, overlaps

MATCH_IOU = 0.5
SURE_SCORE = 0.5
"""From this score on, the detector is sure of a person in a source."""
FOUND_SCORE = 0.3
"""From this score on, a person is found in the fused image."""
PERSON = "person"
VIEWS = ("infrared", "visible", "either")


@dataclass(frozen=True, slots=True)
class ImageDetections:
    """One image: what was detected, and what should be.

    ``labels`` is ``None`` without a label file; ``sure`` then has the persons to find, by view (:data:`VIEWS`).
    """

    found: Sequence[Box]
    labels: Sequence[Box] | None = None
    sure: Mapping[str, Sequence[Box]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """``ap50`` by class name; ``recall`` by view: (persons found, persons to find), absent without any."""

    ap50: Mapping[str, float]
    recall: Mapping[str, tuple[int, int]]


def detection_score(images: Sequence[ImageDetections]) -> DetectionScore:
    """The score of one method on images, of which some may have labels."""
    labelled = [(image.found, image.labels) for image in images if image.labels is not None]
    names = sorted({box.name for _, labels in labelled for box in labels})
    others = [image for image in images if image.labels is None]
    recall = {view: person_recall([(image.found, image.sure.get(view, ())) for image in others]) for view in VIEWS}
    return DetectionScore(
        {name: average_precision(labelled, name) for name in names},
        {view: counts for view, counts in recall.items() if counts[1]},
    )


def average_precision(images: Sequence[tuple[Sequence[Box], Sequence[Box]]], name: str) -> float:
    """AP50 of one class over (detections, labels) of images: the area below the precision's envelope over recall.

    Detections of all images in order of their score; one is right if the label that it overlaps most, by IoU 0.5 or
    more, is of its class and not taken by a better one (PASCAL VOC 2010, at every recall). NaN without labels.
    """
    truth = [[box.corners for box in labels if box.name == name] for _, labels in images]
    total = sum(map(len, truth))
    if not total:
        return float("nan")
    entries = [(box.score, index, box) for index, (found, _) in enumerate(images) for box in found if box.name == name]
    taken: list[set[int]] = [set() for _ in images]
    right = []
    for _, index, box in sorted(entries, key=lambda entry: -entry[0]):
        shared = overlaps(np.array(box.corners), np.array(truth[index]))
        best = int(shared.argmax()) if shared.size else -1
        hit = best >= 0 and shared[best] >= MATCH_IOU and best not in taken[index]
        if hit:
            taken[index].add(best)
        right.append(hit)
    if not right:
        return 0.0
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.sum(np.diff(hits / total, prepend=0.0) * precision))


def person_recall(images: Sequence[tuple[Sequence[Box], Sequence[Box]]]) -> tuple[int, int]:
    """(persons found again, persons to find) over (detections, persons) of images: by IoU 0.5 at a score from 0.3."""
    found = total = 0
    for detections, persons in images:
        seen = np.array([b.corners for b in detections if b.name == PERSON and b.score >= FOUND_SCORE]).reshape(-1, 4)
        total += len(persons)
        found += sum(bool((overlaps(np.array(p.corners), seen) >= MATCH_IOU).any()) for p in persons)
    return found, total


def sure_persons(infrared: Sequence[Box], visible: Sequence[Box]) -> dict[str, list[Box]]:
    """The persons that the detector is sure of, by view; ``either`` has one box for those seen in both."""
    views = [[box for box in boxes if box.name == PERSON and box.score >= SURE_SCORE] for boxes in (infrared, visible)]
    known = np.array([box.corners for box in views[0]]).reshape(-1, 4)
    added = [box for box in views[1] if not (overlaps(np.array(box.corners), known) >= MATCH_IOU).any()]
    return {"infrared": views[0], "visible": views[1], "either": [*views[0], *added]}
