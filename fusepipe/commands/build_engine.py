"""``fusepipe build-engine``: builds an engine from a network and verifies it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.console.completion import BUILDER_NAMES, NETWORK_NAMES, complete_names, listed
from fusepipe.commands.console.options import SizeOption, device_option, examples, json_option
from fusepipe.commands.console.values import two_folders
from fusepipe.core.errors import UsageError
from fusepipe.core.models import PRECISIONS

if TYPE_CHECKING:
    from fusepipe.engines.manifest import Shapes
    from fusepipe.engines.verification import Verification
    from fusepipe.workflows.build_engine.build import BuildResult


class Architecture(click.ParamType[str]):
    """``SM89``, also written ``sm_89``, ``89`` or ``8.9``."""

    name = "architecture"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r}: write the GPU's compute capability, such as SM89 or 8.9", param, ctx)
        return f"SM{match[1]}{match[2]}"


MAX_WORKSPACE_MIB = 1 << 20  # 1 TiB


@click.command(
    "build-engine",
    epilog=examples(
        "fusepipe build-engine",
        "fusepipe build-engine --backend tensorrt --precision fp16 -o night.plan",
    ),
)
@click.option(
    "--model",
    default="stream",
    metavar="NAME|FILE",
    shell_complete=complete_names(NETWORK_NAMES),
    help=f"An ONNX file, or a network that ships: {listed(NETWORK_NAMES)}.",
)
@click.option(
    "--backend",
    default="auto",
    metavar="NAME",
    shell_complete=complete_names(BUILDER_NAMES),
    help=f"What the engine is for: {listed(BUILDER_NAMES)}.",
)
@click.option(
    "--precision",
    metavar="NAME",
    shell_complete=complete_names(PRECISIONS),
    help=f"Its precision: {listed(PRECISIONS)}.",
    show_default="auto",
)
@click.option("--fp16", "short", flag_value="fp16", help="Short for --precision fp16; --bf16 and --int8 as well.")
@click.option("--bf16", "short", flag_value="bf16", hidden=True)
@click.option("--int8", "short", flag_value="int8", hidden=True)
@click.option(
    "--shape",
    nargs=3,
    type=SizeOption(),
    metavar="MIN OPT MAX",
    help="Smallest, tuned and largest image size.",
    show_default="64x64 640x480 1920x1088",
)
@click.option("--batch", type=click.IntRange(1, 16), default=1, help="Largest batch.")
@click.option(
    "--workspace",
    type=click.IntRange(1, MAX_WORKSPACE_MIB),
    metavar="MIB",
    help="TensorRT's memory while it computes.",
)
@click.option("--opt-level", type=click.IntRange(0, 5), help="How long TensorRT searches: 0 to 5.")
@click.option("--timing-cache", type=click.Path(path_type=Path, dir_okay=False), help="TensorRT's timings, reused.")
@click.option(
    "--target-sm",
    multiple=True,
    type=Architecture(),
    metavar="SM89",
    help="GPU architecture (tensorrt-rtx); may be repeated.",
)
@device_option
@click.option("--version-compatible", is_flag=True, help="Also for later versions of TensorRT.")
@click.option("--no-convert", is_flag=True, help="The ONNX file already has the precision; it is still verified.")
@click.option("--warp", is_flag=True, help="The engine registers the infrared image, with any calibration.")
@click.option(
    "--images",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="IR VIS",
    callback=two_folders,
    help="Folders of registered pairs to calibrate and verify with.",
    show_default="the synthetic street",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The engine's file.",
    show_default="the cache",
)
@click.option("--force", is_flag=True, help="Build even if the engine exists, and replace it.")
@json_option
def command(
    model: str,
    backend: str,
    precision: str | None,
    short: str | None,
    shape: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None,
    batch: int,
    workspace: int | None,
    opt_level: int | None,
    timing_cache: Path | None,
    target_sm: tuple[str, ...],
    device: str | None,
    version_compatible: bool,
    no_convert: bool,
    warp: bool,
    images: tuple[Path, Path] | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build an engine for this hardware and verify it.

    The network is converted to the precision, compiled, and compared with the fp32 network on image pairs. If the
    precision was not achieved or the images do not agree, the exit code is 4 and nothing is kept. The manifest
    (NAME.json) records all of it. 'fusepipe run' and 'fusepipe fuse' find engines of the cache; --engine names
    another one.
    """
    from fusepipe.core.progress_bar import ProgressSteps
    from fusepipe.engines.builder.tensorrt_plan import PlanOptions
    from fusepipe.rig.process.signals import StopSignals
    from fusepipe.workflows.build_engine.build import BuildOptions, build_engine

    if short and precision not in (None, short):
        raise UsageError(f"--{short} and --precision {precision} do not go together")
    options = BuildOptions(
        model=model,
        backend=backend,
        precision=_known(short or precision or "auto"),
        shapes=_shapes(shape, batch),
        plan=PlanOptions(
            workspace_mib=workspace,
            opt_level=opt_level,
            timing_cache=timing_cache,
            target_sm=tuple(dict.fromkeys(target_sm)),
            version_compatible=version_compatible,
        ),
        convert=not no_convert,
        warp=warp,
        images=images,
        output=output,
        force=force,
        device=device,
    )
    with StopSignals() as signals, signals.raising(), ProgressSteps(enabled=not as_json) as step:
        result = build_engine(options, rebuild=_rebuild(), step=step)
    click.echo(json.dumps(_document(result), indent=2) if as_json else "\n".join(_lines(result)))


def _rebuild() -> str:
    """This command line, with ``--force``."""
    from fusepipe.core.provenance import command_line

    line = command_line()
    return line if "--force" in line.split() else f"{line} --force"


def _known(precision: str) -> str:
    from fusepipe.core.models import PRECISIONS
    from fusepipe.core.suggest import did_you_mean

    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: {did_you_mean(precision, PRECISIONS)}")
    return precision


def _shapes(shape: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None, batch: int) -> Shapes:
    from dataclasses import replace

    from fusepipe.engines.manifest import Shapes
    from fusepipe.workflows.build_engine.build import DEFAULT_SHAPES

    if shape is None:
        return replace(DEFAULT_SHAPES, batch=batch)
    for axis in (0, 1):
        if not shape[0][axis] <= shape[1][axis] <= shape[2][axis]:
            written = " ".join(f"{width}x{height}" for width, height in shape)
            raise UsageError(
                f"--shape {written}: each of MIN, OPT and MAX has to be at least as large as the one before"
            )
    return Shapes(*shape, batch=batch)


def _document(result: BuildResult) -> dict[str, Any]:
    return {
        "ok": True,
        "engine": str(result.engine.plan),
        "reused": result.engine.reused,
        "backend_reason": result.backend.reason,
        "precision_reason": result.precision.reason,
        "manifest": result.engine.manifest.model_dump(mode="json"),
    }


def _lines(result: BuildResult) -> list[str]:
    manifest, built = result.engine.manifest, result.engine
    counts = ", ".join(f"{count} in {kind}" for kind, count in manifest.layers.items())
    kept = f" (kept fp32: {', '.join(manifest.kept_fp32)})" if manifest.kept_fp32 else ""
    lines = [
        f"backend     {manifest.backend} {manifest.library_version} ({result.backend.reason})",
        f"precision   {manifest.achieved_precision} ({result.precision.reason}); compute layers: {counts}{kept}, "
        f"read from {manifest.layers_from}",
        f"sizes       {_sizes(result)}",
        *verification_lines(manifest.verification),
        f"engine      {built.plan} ({manifest.plan_bytes / 1024:.0f} KiB, {manifest.build_s:.1f} s"
        f"{'; existing engine reused' if built.reused else ''})",
    ]
    return lines


def _sizes(result: BuildResult) -> str:
    manifest = result.engine.manifest
    if manifest.backend == "openvino":
        width, height = manifest.shapes.opt
        return f"any; {width}x{height} is already compiled"
    return f"{manifest.shapes}, batches up to {manifest.shapes.batch}"


def verification_lines(verification: Verification) -> list[str]:
    """The verification of an engine, for people."""
    first, *rest = verification.lines()
    return [f"verified    {first}", *(f"            {line}" for line in rest)]
