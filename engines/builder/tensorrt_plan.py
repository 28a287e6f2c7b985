"""Compiles ONNX graphs to plans with TensorRT 10, 11 or TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.core.files import write_bytes
from fusepipe.engines.backends.tensorrt.library import Library
from fusepipe.engines.manifest import Shapes
from fusepipe.engines.tensor_names import SAMPLING_GRID

_NAMES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options named as in trtexec: workspace, builder optimisation level, timing cache; ``None`` is the default."""

    workspace_mib: int | None = None
    opt_level: int | None = None
    timing_cache: Path | None = None
    target_sm: tuple[str, ...] = ()
    version_compatible: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values of the options that change the plan; the timing cache only changes the build time."""
        listed = {key: value for key, value in asdict(self).items() if key != "timing_cache" and value}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in listed.items()}


def build_plan(
    library: Library, graph: bytes, shapes: Shapes, options: PlanOptions, compute: Iterable[str]
) -> tuple[bytes, dict[str, str]]:
    """Compiles an ONNX graph: the plan, and the precision of each node in ``compute`` as the library reads it.

    Raises :class:`EngineError` with the library's message on failure, :class:`UsageError` for an option that this
    library does not have.
    """
    parsed = parse_network(library, graph, compute)
    builder, network = parsed.builder, parsed.network
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    dimensions = _dimensions(shapes)
    for name in (network.get_input(index).name for index in range(network.num_inputs)):
        # the sampling grid has its coordinates last; raw infrared images have the same range of sizes
        listed = [(n, height, width, 2) for n, _, height, width in dimensions] if name == SAMPLING_GRID else dimensions
        profile.set_shape(name, *listed)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{library.backend} does not accept the shapes {shapes}: {library.complaint()}")
    require_options(library, options)
    apply_options(library, config, options)
    cache = open_timing_cache(library, config, options.timing_cache)
    try:
        plan = builder.build_serialized_network(network, config)
    except RuntimeError as error:
        raise EngineError(f"{library.backend} cannot build the engine: {error}") from error
    if plan is None:  # it never raises
        raise EngineError(f"{library.backend} cannot build the engine: {library.complaint()}")
    if cache is not None and options.timing_cache is not None:
        _keep(options.timing_cache, bytes(memoryview(cache.serialize())))
    return bytes(memoryview(plan)), parsed.precisions


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed network. The parser is kept because it owns the memory of the weights."""

    builder: Any
    network: Any
    parser: Any
    precisions: dict[str, str]


def parse_network(library: Library, graph: bytes, compute: Iterable[str]) -> Parsed:
    """Reads an ONNX graph without building it, and the precisions of ``compute``; raises :class:`EngineError`."""
    from fusepipe.engines.builder.grid_sample import set_interpolation

    trt = library.module
    library.log.clear()
    try:
        builder = trt.Builder(library.logger)
    except (TypeError, RuntimeError) as error:  # the binding's "factory function returned nullptr": no GPU, old driver
        raise EngineError(f"{library.backend} cannot start: {library.complaint()}") from error
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # absent if always set
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(graph):
        said = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise EngineError(f"{library.backend} cannot read the network: {said or library.complaint()}")
    set_interpolation(trt, network, graph)
    return Parsed(builder, network, parser, network_precisions(trt, network, set(compute)))


def _dimensions(shapes: Shapes) -> list[tuple[int, int, int, int]]:
    sizes = ((1, shapes.min), (shapes.batch, shapes.opt), (shapes.batch, shapes.max))
    return [(batch, 1, height, width) for batch, (width, height) in sizes]


def network_precisions(trt: Any, network: Any, compute: set[str]) -> dict[str, str]:
    """Precision of the layers of a parsed network that have these node names.

    A strongly typed network computes each layer in the types of its tensors. A layer is int8 if both its data and its
    weights are dequantised int8, which the builder fuses into an int8 kernel.
    """
    source: dict[str, Any] = {}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    for layer in layers:
        for index in range(layer.num_outputs):
            source[layer.get_output(index).name] = layer
    found = {}
    for layer in layers:
        if layer.name not in compute or layer.type not in _compute_types(trt):
            continue
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        makers = [source.get(tensor.name) for tensor in inputs[:2] if tensor is not None]
        quantised = len(makers) == 2 and all(
            maker is not None
            and maker.type == trt.LayerType.DEQUANTIZE
            and maker.get_input(0).dtype == trt.DataType.INT8
            for maker in makers
        )
        kind = inputs[0].dtype.name
        found[layer.name] = "int8" if quantised else _NAMES.get(kind, kind.lower())
    return found


def _compute_types(trt: Any) -> tuple[Any, ...]:
    kinds = trt.LayerType
    return kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY


def require_options(library: Library, options: PlanOptions) -> None:
    """Raises :class:`UsageError` for an option that this library does not have."""
    if options.version_compatible and library.portable:  # the wheel lacks the lean runtime that such plans carry
        raise UsageError(
            f"{library.backend} has no version-compatible plans: omit --version-compatible, and build again "
            "after an update"
        )
    if options.timing_cache is not None and library.portable:
        raise UsageError(
            f"{library.backend} measures no timings: it compiles kernels when a plan first runs, and caches them; "
            "omit --timing-cache"
        )
    if options.target_sm and not library.portable:
        raise UsageError(
            "--target-sm is for tensorrt-rtx: tensorrt builds for the GPU of this machine; omit it, or use "
            "--backend tensorrt-rtx"
        )
    members = library.module.ComputeCapability.__members__ if library.portable else ()
    known = [name for name in members if name.startswith("SM")]
    for name in options.target_sm:
        if name not in known:
            raise UsageError(f"{library.backend} {library.version} builds for {', '.join(known)}, not for {name}")


def apply_options(library: Library, config: Any, options: PlanOptions) -> None:
    """Sets the options, other than the timing cache, in a builder configuration of TensorRT."""
    trt = library.module
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector shows no types of layers
    if hasattr(trt.BuilderFlag, "TF32"):  # on by default: fp32 layers would multiply with a 10-bit mantissa
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    resizable = getattr(getattr(trt, "PreviewFeature", None), "RUNTIME_ACTIVATION_RESIZE_10_10", None)
    if resizable is not None:  # a context then needs memory for its shapes, not for the largest
        config.set_preview_feature(resizable, True)
    if options.target_sm:
        config.num_compute_capabilities = len(options.target_sm)
        for index, name in enumerate(options.target_sm):
            config.set_compute_capability(trt.ComputeCapability.__members__[name], index)


def open_timing_cache(library: Library, config: Any, path: Path | None) -> Any:
    """The timing cache of a file, attached to the configuration; empty if there is no file yet.

    Raises :class:`EngineError` if it cannot be read or is not for this library and GPU.
    """
    if path is None:
        return None
    try:
        before = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise EngineError(f"{path}: the timing cache cannot be read ({error.strerror or error})") from error
    complaints = len(library.log)
    cache = config.create_timing_cache(before)  # an unreadable cache becomes an empty one, with an entry in the log
    refused = bool(before) and len(library.log) > complaints
    if cache is None or refused or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise EngineError(
            f"{path}: {library.backend} {library.version} rejects this timing cache ({library.complaint()}); "
            "remove the file, or omit --timing-cache"
        )
    return cache


def _keep(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise EngineError(f"{path}: the timing cache cannot be written ({error.strerror or error})") from error
