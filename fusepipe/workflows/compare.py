"""``fusepipe compare``: runs fusion methods on the same sets of pairs, times and scores them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusepipe.core.errors import FusepipeError, SourceError, UsageError
from fusepipe.core.frames import Luma8
from fusepipe.core.fuser import FunctionFuser, Fuser, FuserInfo
from fusepipe.core.models import ATTENTION, MODELS, model_factory
from fusepipe.core.provenance import versions
from fusepipe.core.suggest import did_you_mean
from fusepipe.core.text import shortlist
from fusepipe.evaluation.baselines.trivial import TRIVIAL_RULES, sum_rule
from fusepipe.evaluation.detection.image_set import SetDetection, score_rows
from fusepipe.evaluation.detection.labels import parse_maps
from fusepipe.evaluation.detection.score import ImageDetections
from fusepipe.evaluation.detection.yolox import YoloxDetector, class_names
from fusepipe.evaluation.image_sets import (
    ImageSet,
    evenly_spaced,
    find_sets,
    read_luma,
    require_one_size,
)
from fusepipe.evaluation.metrics.flow_difference import FlowReference
from fusepipe.evaluation.metrics.registry import METRICS
from fusepipe.evaluation.metrics.temporal import TemporalReference
from fusepipe.evaluation.ranks import default_metrics
from fusepipe.evaluation.report.published import METRICS_OF_PAPER, PRESETS, Preset
from fusepipe.evaluation.report.results import BOUND, Comparison, Example, MethodResult, SetResult, missing_values
from fusepipe.evaluation.scorer import Scorer, Triple
from fusepipe.evaluation.scores import metric_names
from fusepipe.evaluation.tno_catalogue import still_pair_names, tno_folder
from fusepipe.rig.factories.fusers import load_fuser
from fusepipe.workflows.infrared_lumas import InfraredLumas

QUICK = ("stream", "pyramid")  # the default: the default model and the usual classical method
CHUNK = 16  # pairs fused, then scored: fusing is timed while nothing else is computed
TEMPORAL_PIXELS = 40_000_000  # of a sequence, for TR and flowD: motion takes 18 bytes per pixel and frame
FREE_INPUT_PX = 640  # the side of a detector's input where its file leaves it open
STILLS_SHOWN, FRAMES_SHOWN = 4, 2  # example pairs in a report, of a set of stills and of a sequence

Step = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What to compare.

    ``sets`` and ``limit`` keep some of the data; ``only`` keeps images by name. ``sequence`` says whether
    the sets are sequences; None guesses it. ``with_images`` keeps example pairs for a report.
    ``rename`` gives sets and models the names under which they are shown. ``optional`` models are
    reported, not failed, where they cannot run. ``detector`` is an ONNX file in YOLOX's format, ``labels_map``
    says what the numbers in ``labels/`` mean (:func:`fusepipe.evaluation.detection.labels.parse_maps`).
    ``infrared_keys`` (``agc``, ``range``) say how infrared images of more than 8 bits are mapped; default: as in a run.
    """

    data: Path
    models: tuple[str, ...] = QUICK
    sets: tuple[str, ...] | None = None
    limit: int | None = None
    only: frozenset[str] | None = None
    sequence: bool | None = None
    variant: str = "paper"
    metrics: tuple[str, ...] | None = None
    jobs: int = 1
    with_images: bool = False
    optional: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    detector: Path | None = None
    labels_map: tuple[str, ...] = ()
    infrared_keys: Mapping[str, Any] = field(default_factory=dict)


def require_models(names: Sequence[str]) -> tuple[str, ...]:
    """The models of a comparison, ``all`` for every model; raises :class:`UsageError` with the nearest name."""
    if "all" in names:
        return tuple(MODELS)
    for name in names:
        if name not in MODELS and name not in TRIVIAL_RULES:
            raise UsageError(f"unknown model {name!r}: {did_you_mean(name, [*MODELS, 'all'])}")
    return tuple(names)


def find_data(data: str) -> Path:
    """The folder that ``--data`` names: for ``tno`` the one in which ``fusepipe data tno`` arranges it.

    Raises :class:`UsageError` where TNO is not arranged.
    """
    if data != "tno":
        return Path(data)
    folder = tno_folder()
    if not folder.is_dir():
        raise UsageError(
            f"TNO is not at {folder}: 'fusepipe data tno' shows where to get it and arranges it; "
            "FUSEPIPE_TNO names another folder, and ./tno means the folder of that name here"
        )
    return folder


def preset_options(
    name: str, data: str, *, limit: int | None, jobs: int, with_images: bool
) -> tuple[Preset, CompareOptions]:
    """The published table, and the options to reproduce it with the available models.

    Raises :class:`UsageError` for an unknown name, with the nearest.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}: {did_you_mean(name, PRESETS)}")
    preset = PRESETS[name](MODELS)
    options = CompareOptions(
        find_data(data),
        preset.models,
        sets=preset.sets,
        limit=limit,
        only=still_pair_names("n25") if preset.table == "table2" else None,
        metrics=METRICS_OF_PAPER,
        jobs=jobs,
        with_images=with_images,
        rename=preset.rename,
    )
    return preset, options


def compare(options: CompareOptions, step: Step = lambda done, total, what: None) -> Comparison:
    """Every model and the rules ``mean``, ``max`` and ``sum`` on every pair.

    A model that cannot be loaded or fails on a pair is reported with its reason and removed from all sets;
    the others continue. Raises :class:`SourceError` for data that cannot be used, :class:`UsageError` for an
    unknown model or metric.
    """
    names = metric_names(options.variant, options.metrics)
    # the bound is computed together with what it bounds, requested or not
    names += [BOUND[name] for name in names if name in BOUND and BOUND[name] not in names]
    models = [model for model in require_models(options.models) if model not in TRIVIAL_RULES]
    work = [_Work(image_set, options) for image_set in find_sets(options.data, options.sets, sequence=options.sequence)]
    detector = _open_detector(options.detector)
    if detector is None and options.labels_map:
        raise UsageError("--labels-map is for --detector: name the detector's file")
    maps = parse_maps(options.labels_map, detector.names) if detector is not None else {}
    for entry in work:
        entry.check()
        if detector is not None:
            entry.watch(detector, maps)
    comparison = Comparison(_title(options, len(models)), names, options.variant, [entry.result for entry in work])
    comparison.ranked_by = _ranked_by(names, options)
    pairs = sum(len(entry.names) for entry in work)
    total, done = pairs * (len(models) + len(TRIVIAL_RULES)), 0
    with closing(Scorer(names, min(options.jobs, pairs))) as scorer:
        for model in (*models, *TRIVIAL_RULES):
            shown = options.rename.get(model, model)
            base = done

            def progress(count: int, label: str = shown, base: int = base) -> None:
                step(base + count, total, label)

            try:
                with _load(model) as fuser:
                    _run(shown, fuser, work, scorer, progress)
                if options.with_images and model in ATTENTION:
                    with _load_attention(model) as explained:
                        for entry in work:
                            entry.explain(shown, explained)
            except FusepipeError as error:
                if model in TRIVIAL_RULES:
                    raise
                comparison.unavailable[shown] = str(error)
                if model not in options.optional:
                    comparison.failed.append(shown)
                for entry in work:
                    entry.remove(shown)
            done += pairs
    if detector is not None:
        for entry in work:
            entry.result.detection = score_rows([entry.detections()])
        comparison.detection_over_sets = score_rows([entry.detections() for entry in work]) if len(work) > 1 else {}
    comparison.notes += missing_values(comparison)
    comparison.versions = versions()
    return comparison


def _open_detector(path: Path | None) -> YoloxDetector | None:
    if path is None:
        return None
    from fusepipe.engines.backends.openvino.onnx_function import OnnxFunction

    run = OnnxFunction(path, FREE_INPUT_PX)
    shape, output = run.input_shape, run.output_shape
    if len(shape) != 4 or shape[:2] != (1, 3) or len(output) != 3:
        raise UsageError(f"{path}: not a YOLOX detector: it takes {shape} and gives {output}")
    try:
        return YoloxDetector(run, (shape[2], shape[3]), output, class_names(path, output[2] - 5))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _ranked_by(names: Sequence[str], options: CompareOptions) -> list[str]:
    """The metrics of the mean rank: those asked for by name, else one of each family."""
    chosen = names if options.metrics is not None else default_metrics(names)
    return [name for name in chosen if METRICS[name].direction != "bound"]


def _title(options: CompareOptions, count: int) -> str:
    name = options.data.resolve().name or str(options.data)
    if not count:
        return f"Trivial fusion rules on {name}"
    return f"{count} fusion {'method' if count == 1 else 'methods'} on {name}"


def _load(model: str) -> Fuser:
    if model == "sum":
        return FunctionFuser(FuserInfo("sum", "numpy", "uint8"), sum_rule)
    return load_fuser(model)


def _load_attention(model: str) -> Fuser:
    """A fuser whose output is the attention map of a model."""
    return model_factory(model)(ATTENTION[model])


def _run(name: str, fuser: Fuser, work: Sequence[_Work], scorer: Scorer, step: Callable[[int], None]) -> None:
    """One model on all sets: fuses a chunk alone and timed, then scores it on all cores."""
    info, count = fuser.info, 0
    for entry in work:
        method = MethodResult(name, f"{info.backend} {info.precision} on {info.device}")
        entry.result.methods.append(method)
        reference = entry.motion()
        fused_frames: list[Luma8] = []
        for start in range(0, len(entry.names), CHUNK):
            triples = []
            for index in range(start, min(start + CHUNK, len(entry.names))):
                ir, vis = entry.read(index)
                fuser.prepare(*vis.shape)
                if index == 0:
                    fuser.fuse(ir, vis)  # warm-up: the first call is not typical
                began = time.perf_counter()
                fused = fuser.fuse(ir, vis)
                method.ms_per_pair.append(1e3 * (time.perf_counter() - began))
                method.luminance.append(float(fused.mean()))
                entry.keep(index, name, fused)
                entry.detect(index, name, fused)
                triples.append(Triple(entry.names[index], ir, vis, fused))
                count += 1
                step(count)
            method.rows.extend(scorer.scores(triples))
            fused_frames += [triple.fused for triple in triples][: max(0, entry.frames - start)]
        if reference is not None:
            method.temporal = reference.score(fused_frames)


class _Motion:
    """The motion in a sequence of pairs, by which all methods are scored."""

    def __init__(self, ir: Sequence[Luma8], vis: Sequence[Luma8]) -> None:
        self._temporal, self._flow = TemporalReference(ir, vis), FlowReference(vis)

    def score(self, fused: Sequence[Luma8]) -> dict[str, float]:
        """The sequence metrics by name."""
        temporal, flow = self._temporal.score(fused), self._flow.score(fused)
        return {
            "TR": temporal.ratio,
            "LE": temporal.luminance_excess,
            "flowD": flow.difference,
            "flowD_SD": flow.relative,
        }


class _Work:
    """One set during the comparison: reads its pairs and collects the results."""

    def __init__(self, image_set: ImageSet, options: CompareOptions) -> None:
        pairs = image_set.pairs
        self.names = [name for name in pairs.names if options.only is None or name in options.only][: options.limit]
        self._files = [pairs.files[name] for name in self.names]
        shown = options.rename.get(image_set.name, image_set.name)
        self.result = SetResult(shown, self.names, image_set.sequence, notes=pairs.notes())
        if not self.names:
            raise SourceError(f"{image_set.name}: has none of the requested images")
        self._lumas = InfraredLumas([files[0] for files in self._files], options.infrared_keys, keep=True)
        if len(self.names) < len(pairs.names):
            self.result.notes.append(f"{len(self.names)} of its {len(pairs.names)} pairs were requested")
        most = FRAMES_SHOWN if image_set.sequence else STILLS_SHOWN
        self._motion: _Motion | None = None
        self._detection: SetDetection | None = None
        self._pixels = 1
        self._examples: dict[int, Example] = {}
        self._kept = evenly_spaced(len(self.names), most) if options.with_images else []

    def read(self, index: int) -> tuple[Luma8, Luma8]:
        _, vis_file = self._files[index]
        return self._lumas.read(index), read_luma(vis_file)

    def check(self) -> None:
        """Reads every pair once, so that a bad one stops the comparison at the start."""
        shapes = set()
        ir_means, vis_means = [], []
        for index, name in enumerate(self.names):
            ir, vis = self.read(index)
            require_one_size(f"{self.result.name}/{name}", infrared=ir, visible=vis)
            shapes.add(vis.shape)
            self._pixels = max(self._pixels, vis.size)
            ir_means.append(float(ir.mean()))
            vis_means.append(float(vis.mean()))
            if index in self._kept:
                self._examples[index] = Example(name, ir, vis)
        self.result.notes += self._lumas.notes
        self.result.luminance = {"ir": ir_means, "vis": vis_means}
        self.result.examples = list(self._examples.values())
        if self.result.sequence and len(shapes) > 1:
            self.result.sequence = False
            sizes = shortlist([f"{width}x{height}" for height, width in sorted(shapes)], 3)
            self.result.notes.append(f"treated as stills: its images have different sizes ({sizes})")

    def keep(self, index: int, name: str, fused: Luma8) -> None:
        if index in self._examples:
            self._examples[index].fused[name] = fused

    def watch(self, detector: YoloxDetector, maps: Mapping[str, Mapping[int, str]]) -> None:
        """Detects in the sources, and from now on in every fused image."""
        files = dict(zip(self.names, self._files, strict=True))
        self._detection = SetDetection(detector, self.result.name, files, maps, self._infrared)
        self._detection.read_sources()
        self.result.notes += self._detection.notes

    def _infrared(self, name: str) -> Luma8:
        return self._lumas.read(self.names.index(name))

    def detect(self, index: int, name: str, fused: Luma8) -> None:
        if self._detection is not None:
            self._detection.add(name, self.names[index], fused)

    def detections(self) -> dict[str, Sequence[ImageDetections]]:
        """What the detector saw, by source and method."""
        return self._detection.images() if self._detection is not None else {}

    def explain(self, name: str, attention: Fuser) -> None:
        """Adds the attention map of method ``name`` to the example pairs."""
        for example in self._examples.values():
            example.attention[name] = attention.fuse(example.ir, example.vis)

    @property
    def frames(self) -> int:
        """The number of frames that are scored as a sequence: 0 for stills."""
        if not self.result.sequence:
            return 0
        return min(len(self.names), max(2, TEMPORAL_PIXELS // self._pixels))

    def motion(self) -> _Motion | None:
        """The motion of the sources, computed once for all methods; ``None`` for stills."""
        if self._motion is None and self.frames > 1:
            pairs = [self.read(index) for index in range(self.frames)]
            self._motion = _Motion([ir for ir, _ in pairs], [vis for _, vis in pairs])
            if self.frames < len(self.names):
                self.result.notes.append(f"TR, LE and flowD are those of the first {self.frames} frames")
        return self._motion

    def remove(self, name: str) -> None:
        """Removes all results of a method that failed."""
        self.result.methods = [method for method in self.result.methods if method.name != name]
        if self._detection is not None:
            self._detection.remove(name)
        for example in self._examples.values():
            example.fused.pop(name, None)
            example.attention.pop(name, None)
