"""``fusepipe build-engine``: from weights to a proven engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fusepipe.commands.options import Size, json_option
from fusepipe.core.errors import UsageError

if TYPE_CHECKING:
    from fusepipe.workflows.build_engine import Outcome


class Architecture(click.ParamType[str]):
    """``SM89``, also written ``sm_89``, ``89`` or ``8.9``."""

    name = "architecture"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r}: write the GPU's compute capability, such as SM89 or 8.9", param, ctx)
        return f"SM{match[1]}{match[2]}"


MOST_WORKSPACE_MIB = 1 << 20  # 1 TiB


@click.command("build-engine")
@click.option("--model", default="stream", show_default=True, help="A network that ships, or an ONNX file.")
@click.option("--backend", default="auto", show_default=True, help="tensorrt, tensorrt-rtx, openvino or auto.")
@click.option("--precision", default=None, help="fp32, fp16, bf16, int8 or auto [auto].")
@click.option("--fp16", "short", flag_value="fp16", help="Short for --precision fp16; --bf16 and --int8 as well.")
@click.option("--bf16", "short", flag_value="bf16", hidden=True)
@click.option("--int8", "short", flag_value="int8", hidden=True)
@click.option(
    "--shape",
    nargs=3,
    type=Size(),
    metavar="MIN OPT MAX",
    help="Sizes it takes, and the one it is tuned for [64x64 640x480 1920x1088].",
)
@click.option("--batch", type=click.IntRange(1, 16), default=1, show_default=True, help="Largest batch.")
@click.option(
    "--workspace",
    type=click.IntRange(1, MOST_WORKSPACE_MIB),
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
@click.option("--version-compatible", is_flag=True, help="Also for later versions of TensorRT.")
@click.option("--no-convert", is_flag=True, help="The ONNX file has the precision already; it is proven all the same.")
@click.option("--warp", is_flag=True, help="The engine registers the infrared image itself, with any calibration.")
@click.option(
    "--images",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="IR VIS",
    help="Folders of registered pairs to calibrate and prove with [the synthetic street].",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The engine's file [the cache].")
@click.option("--force", is_flag=True, help="Build also where a proven engine is there, and replace it.")
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
    version_compatible: bool,
    no_convert: bool,
    warp: bool,
    images: tuple[Path, Path] | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build an engine for this hardware, and prove it.

    The network is converted to the precision, compiled, and compared with the fp32 network on pairs of
    images. The exit code is 4, and nothing is kept, where the precision was not achieved or the images do not
    agree. The engine comes with a manifest (NAME.json) that says all of it. 'fusepipe run' and 'fusepipe fuse'
    find engines of the cache by themselves; --engine names another.
    """
    from fusepipe.core.provenance import command_line
    from fusepipe.engines.builder.tensorrt import PlanOptions
    from fusepipe.rig.signals import StopSignals
    from fusepipe.workflows.build_engine import BuildOptions, build_engine

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
    )
    rebuild = command_line()
    if "--force" not in rebuild.split():
        rebuild += " --force"
    with StopSignals() as signals, signals.raising():
        outcome = build_engine(
            options, rebuild=rebuild, step=lambda text: None if as_json else click.echo(f"{text} ...", err=True)
        )
    click.echo(json.dumps(_document(outcome), indent=2) if as_json else "\n".join(_lines(outcome)))


def _known(precision: str) -> str:
    from fusepipe.core.models import PRECISIONS
    from fusepipe.core.suggest import did_you_mean

    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}: {did_you_mean(precision, PRECISIONS)}")
    return precision


def _shapes(shape: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None, batch: int) -> Any:
    from dataclasses import replace

    from fusepipe.engines.manifest import Shapes
    from fusepipe.workflows.build_engine import DEFAULT_SHAPES

    if shape is None:
        return replace(DEFAULT_SHAPES, batch=batch)
    for axis in (0, 1):
        if not shape[0][axis] <= shape[1][axis] <= shape[2][axis]:
            written = " ".join(f"{width}x{height}" for width, height in shape)
            raise UsageError(
                f"--shape {written}: each of MIN, OPT and MAX has to be at least as large as the one before"
            )
    return Shapes(*shape, batch=batch)


def _document(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ok": True,
        "engine": str(outcome.built.plan),
        "reused": outcome.built.reused,
        "backend_reason": outcome.backend.reason,
        "precision_reason": outcome.precision.reason,
        "manifest": asdict(outcome.built.manifest),
    }


def _lines(outcome: Outcome) -> list[str]:
    manifest, built = outcome.built.manifest, outcome.built
    counts = ", ".join(f"{count} in {kind}" for kind, count in manifest.layers.items())
    kept = f" (kept fp32: {', '.join(manifest.kept_fp32)})" if manifest.kept_fp32 else ""
    lines = [
        f"backend     {manifest.backend} {manifest.library_version} ({outcome.backend.reason})",
        f"precision   {manifest.achieved_precision} ({outcome.precision.reason}); compute layers: {counts}{kept}",
        f"sizes       {_sizes(outcome)}",
        *proof_lines(manifest.proof),
        f"engine      {built.plan} ({manifest.plan_bytes / 1024:.0f} KiB, {manifest.build_s:.1f} s"
        f"{'; was there already, proven' if built.reused else ''})",
    ]
    return lines


def _sizes(outcome: Outcome) -> str:
    manifest = outcome.built.manifest
    if manifest.backend == "openvino":
        width, height = manifest.shapes.best
        return f"any; {width}x{height} is compiled already"
    return f"{manifest.shapes}, batches up to {manifest.shapes.batch}"


def proof_lines(proof: dict[str, Any]) -> list[str]:
    """A manifest's proof for people."""
    lines = [f"proof       {proof['subject']}"]
    for agreement in proof["agreements"]:
        lines.append(
            f"            {agreement['psnr_db']:.1f} dB, at most {agreement['max_abs']} grey levels off "
            f"{agreement['reference']} on {agreement['pairs']} pairs"
        )
        if agreement["metrics"]:
            changes = ", ".join(f"{n} {v['change_percent']:+.2f} %" for n, v in agreement["metrics"].items())
            lines.append(f"            {changes}")
    return lines + [f"            {note}" for note in proof.get("notes", ())]
