"""``fusepipe bench``: throughput against the arithmetic limit, the soak test, the table of engines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fusepipe.commands.console.completion import backend_option, model_option, precision_option
from fusepipe.commands.console.memory_lines import copy_lines, print_memory
from fusepipe.commands.console.options import Duration, examples, json_option
from fusepipe.core.errors import UsageError

if TYPE_CHECKING:
    from fusepipe.workflows.bench.against import Against
    from fusepipe.workflows.bench.cpu_time import StepTable
    from fusepipe.workflows.bench.engine_speeds import EngineBench
    from fusepipe.workflows.bench.gain_speeds import GainSpeed
    from fusepipe.workflows.bench.history import Ratio
    from fusepipe.workflows.bench.soak import Held, SoakReport
    from fusepipe.workflows.bench.throughput import BenchReport
    from fusepipe.workflows.bench.view_speeds import ViewSpeed

SWEEP = ("640x480,320x240", "1280x720,640x512", "1920x1080,640x512", "3840x2160,640x512")
LEAST_SIDE_PX, MOST_SIDE_PX = 16, 9999  # of either image
UNKNOWN = "not available on this system"


class Sizes(click.ParamType[tuple[tuple[int, int], tuple[int, int]]]):
    """``640x480`` or ``640x480,320x240``: visible and infrared; infrared defaults to half of visible."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)x(\d+)(?:,(\d+)x(\d+))?", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r}: write WIDTHxHEIGHT such as 640x480, or 640x480,320x240 with infrared's", param, ctx)
        numbers = [int(n) for n in match.groups() if n is not None]
        visible = (numbers[0], numbers[1])
        infrared = (numbers[2], numbers[3]) if len(numbers) == 4 else (visible[0] // 2, visible[1] // 2)
        if min(*visible, *infrared) < LEAST_SIDE_PX or max(*visible, *infrared) > MOST_SIDE_PX:
            limits = f"{LEAST_SIDE_PX} to {MOST_SIDE_PX:,} pixels wide and high"
            self.fail(f"{value!r}: both images must be {limits}", param, ctx)
        return visible, infrared


@click.command(
    "bench",
    epilog=examples(
        "fusepipe bench --size 1280x720,640x512",
        "fusepipe bench --sizes --against ffmpeg --history speed.jsonl",
        "fusepipe bench --compare bench.json --json",
        "fusepipe bench --engines --model stream",
    ),
)
@click.option(
    "--size",
    type=Sizes(),
    help="Visible size, or visible,infrared.",
    show_default="640x480,320x240; with --soak 160x120,80x60",
)
@click.option("--sizes", is_flag=True, help=f"Several sizes, visible,infrared: {', '.join(SWEEP)}.")
@click.option("--against", type=click.Choice(["ffmpeg"]), help="Also measure ffmpeg, which decodes, averages, encodes.")
@click.option("--compare", type=click.Path(path_type=Path), metavar="OTHER.json", help="Ratios to an earlier --json.")
@click.option("--history", type=click.Path(path_type=Path), metavar="FILE.jsonl", help="Append the figures to a file.")
@click.option("--pairs", type=click.IntRange(min=10), default=300, help="Number of pairs.")
@model_option()
@backend_option
@precision_option
@click.option("--preset", default="superfast", help="Encoder preset of x264.")
@click.option(
    "--soak",
    type=click.IntRange(min=10),
    metavar="PAIRS",
    help="Instead: soak test over so many pairs (memory, threads).",
)
@click.option("--memory", is_flag=True, help="Instead: the memory that a run and each of its parts take.")
@click.option("--engines", is_flag=True, help="Instead: the network alone on every backend and precision.")
@click.option("--views", is_flag=True, help="Instead: each view of an output alone, at 640x480 and 1280x1024.")
@click.option("--agc", is_flag=True, help="Instead: each mode of gain control alone, at 640x480 and 1280x1024.")
@click.option(
    "--roofline",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Instead: networks against this CPU's limits.",
)
@click.option("--time-limit", type=Duration(), default="2min", help="Time limit of each part.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    size: tuple[tuple[int, int], tuple[int, int]] | None,
    sizes: bool,
    against: str | None,
    compare: Path | None,
    history: Path | None,
    pairs: int,
    model: str,
    backend: str,
    precision: str,
    preset: str,
    soak: int | None,
    memory: bool,
    engines: bool,
    views: bool,
    agc: bool,
    roofline: Path | None,
    time_limit: float,
    as_json: bool,
) -> None:
    """Measure throughput and the cost of each stage.

    A pair of H.264 files is rendered and run through the whole pipeline into another H.264 file; then each
    stage runs alone. The limit is the throughput without any waiting: cores / summed CPU seconds per pair.
    """
    from fusepipe.core.progress_bar import ProgressBar

    if memory:
        print_memory(ctx, measured_sizes(ctx, size, sizes), as_json)
        return
    if roofline is not None:
        from fusepipe.commands.console.roofline_lines import draw_roofline

        only_measurements(ctx)
        draw_roofline(ctx, roofline, size[0] if size else None, time_limit, as_json)
        return
    if views or agc:
        bench_steps(ctx, "views" if views else "agc", size[0] if size else None, time_limit, as_json)
        return
    if engines:
        print_engines(ctx, model, size[0] if size else (640, 480), time_limit, as_json)
        return
    if soak:
        only_measurements(ctx)
        from fusepipe.workflows.bench.soak import soak as run_soak
        from fusepipe.workflows.bench.throughput import BenchOptions

        visible, infrared = size or ((160, 120), (80, 60))
        with ProgressBar("measuring", enabled=not as_json):
            soaked = run_soak(BenchOptions(visible, infrared, soak, model, backend, precision, preset, time_limit))
        document, lines = soaked.as_json(), soak_lines(soaked)
        click.echo(json.dumps({"ok": True, **document}, indent=2) if as_json else "\n".join(lines))
        return
    settings = (pairs, model, backend, precision, preset, time_limit, against is not None)
    bench_sizes(measured_sizes(ctx, size, sizes), settings, compare, history, as_json)


def measured_sizes(
    ctx: click.Context, size: tuple[tuple[int, int], tuple[int, int]] | None, sweep: bool
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The visible and infrared sizes to measure. Raises :class:`UsageError` where one and several are asked for."""
    if sweep and size:
        raise UsageError("--size and --sizes cannot be combined: --sizes measures its own")
    return [Sizes().convert(text, None, ctx) for text in SWEEP] if sweep else [size or ((640, 480), (320, 240))]


def print_engines(ctx: click.Context, model: str, size: tuple[int, int], time_limit: float, as_json: bool) -> None:
    """Measures the network on every backend and precision, and prints the table."""
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.bench.engine_speeds import bench_engines

    only_measurements(ctx)
    for name in ("soak", "pairs", "backend", "precision", "preset"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--engines and --{name} cannot be combined: it runs every backend and precision")
    with ProgressBar("measuring engines", enabled=not as_json):
        table = bench_engines(model, size, time_limit)
    as_text = "\n".join(engine_lines(table))
    click.echo(json.dumps({"ok": True, **table.as_json()}, indent=2) if as_json else as_text)


def bench_steps(
    ctx: click.Context, what: Literal["views", "agc"], size: tuple[int, int] | None, time_limit: float, as_json: bool
) -> None:
    """Measures each view of an output, or each mode of gain control, and prints the table; they need no engine."""
    only_measurements(ctx)
    for name in ("engines", "soak", "pairs", "model", "backend", "precision", "preset", *({"agc"} - {what})):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{what} and --{name} cannot be combined: --{what} runs without an engine")
    table: StepTable[ViewSpeed] | StepTable[GainSpeed]
    named: list[tuple[str, ViewSpeed | GainSpeed]]
    if what == "views":
        from fusepipe.workflows.bench.view_speeds import bench_views

        table = bench_views(size, time_limit)
        named = [(row.view, row) for row in table.rows]
    else:
        from fusepipe.workflows.bench.gain_speeds import bench_gain

        table = bench_gain(size, time_limit)
        named = [(row.mode, row) for row in table.rows]
    if as_json:
        click.echo(json.dumps({"ok": True, **table.as_json()}, indent=2))
        return
    click.echo(f"{table.cpu}, {table.cores:g} {'core' if table.cores == 1 else 'cores'}\n")
    click.echo(f"{what:24}{'size':>12}{'least ms':>12}{'median ms':>12}")
    for name, row in named:
        shape = f"{row.size[0]}x{row.size[1]}"
        click.echo(f"{name:24}{shape:>12}{row.least_ms:12.2f}{row.median_ms:12.2f}")


def bench_sizes(
    sizes: list[tuple[tuple[int, int], tuple[int, int]]],
    settings: tuple[int, str, str, str, str, float, bool],
    compare: Path | None,
    history: Path | None,
    as_json: bool,
) -> None:
    """Measures each size, prints it, compares it with earlier figures and records it."""
    from fusepipe.core.progress_bar import ProgressBar
    from fusepipe.workflows.bench.history import append_history, ratios, read_documents
    from fusepipe.workflows.bench.throughput import BenchOptions, measure_throughput

    before = None if compare is None else read_documents(compare)
    if history is not None:
        append_history(history, [])  # what cannot be written is found out before minutes of measuring
    documents = []
    for visible, infrared in sizes:
        with ProgressBar(f"measuring {visible[0]}x{visible[1]}", enabled=not as_json):
            measured = measure_throughput(BenchOptions(visible, infrared, *settings))
        documents.append(measured.as_json())
        if not as_json:
            click.echo("\n".join([*bench_lines(measured), ""]))
    compared = None if before is None else ratios(documents, before)
    if history is not None:
        append_history(history, documents)
    if as_json:
        body: dict[str, Any] = documents[0] if len(documents) == 1 else {"sizes": documents}
        if compared is not None:
            body = {**body, "compared": [ratio.as_json() for ratio in compared]}
        click.echo(json.dumps({"ok": True, **body}, indent=2))
    elif compared is not None:
        click.echo("\n".join(compare_lines(compared, str(compare))))


def only_measurements(ctx: click.Context) -> None:
    """Raises :class:`UsageError` for options of a measurement that another mode of the command does not have."""
    for name in ("sizes", "against", "compare", "history"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name} cannot be combined with --soak, --engines, --views, --agc or --roofline")


def compare_lines(compared: list[Ratio], other: str) -> list[str]:
    """Figures now and before, and their quotients, as text."""
    lines = [f"{'':26}{'now':>10}{'before':>10}{'now/before':>12}  ({other})"]
    size = ""
    for ratio in compared:
        if ratio.size != size:
            size = ratio.size
            lines.append(size)
        lines.append(f"  {ratio.figure:24}{ratio.now:10.2f}{ratio.before:10.2f}{ratio.ratio:12.2f}")
    return lines if compared else [f"{other} has no measurement of this size and model"]


def _engine_line(engine: dict[str, Any]) -> str:
    reason = f" ({engine['reason']})" if engine.get("reason") else ""
    return f"{engine['model']} on {engine['backend']} {engine['precision']}{reason}"


def bench_lines(report: BenchReport) -> list[str]:
    """The measurement as text."""
    clips, run, cores = report.clips, report.end_to_end, report.machine["cores"]
    (width, height), (ir_width, ir_height) = clips["visible_size"], clips["infrared_size"]
    lines = [
        f"{report.machine['cpu']}, {cores:g} {'core' if cores == 1 else 'cores'}",
        f"visible {width}x{height} + infrared {ir_width}x{ir_height}, H.264 files to an H.264 file, "
        f"{clips['pairs']} pairs",
        _engine_line(report.engine),
        "",
        f"{'each stage alone':18}{'CPU ms/pair':>12}{'share':>8}{'wall ms/pair':>14}",
    ]
    total = report.stage_cpu_ms
    for stage in report.stages:
        share = 100 * stage.cpu_ms / total if total else 0.0
        lines.append(f"  {stage.name:16}{stage.cpu_ms:12.2f}{share:7.1f}%{stage.wall_ms:14.2f}")
    lines.append(f"  {'sum':16}{total:12.2f}{100:7.1f}%")
    lines += copy_lines(report.copies)
    threads = ", ".join(f"{name} {cpu_ms:.2f}" for name, cpu_ms in run.thread_cpu_ms.items())
    lines += [
        "",
        f"end to end  {run.pairs_per_s:.1f} pairs/s ({run.pairs} in {run.seconds:.1f} s), "
        f"{run.cpu_ms:.2f} CPU ms/pair, {run.cores_used:.2f} cores used",
        f"limit       {report.limit_pairs_per_s:.1f} pairs/s = {cores:g} cores / {total:.2f} ms",
        f"reached     {report.share_percent:.0f} %{_of_free(report)}",
        f"threads     {threads} CPU ms/pair, each with the threads of its libraries",
    ]
    if report.against is not None:
        lines += _against_lines(report.against, report.limit_pairs_per_s)
    if run.latency_ms:
        latency = "latency     p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms".format(**run.latency_ms)
        lines.append(f"{latency}, with full queues: files are read at full speed")
    return lines + [f"note: {note}" for note in report.notes]


def _against_lines(against: Against, limit_pairs_per_s: float) -> list[str]:
    peak = UNKNOWN if against.peak_mib is None else f"{against.peak_mib:.0f} MiB at most in memory"
    steady = (
        f"steady      {against.pairs_per_s:.1f} pairs/s, start-up left out: "
        f"{100 * against.pairs_per_s / limit_pairs_per_s:.0f} % of the limit"
    )
    return [
        f"ffmpeg      {against.ffmpeg_cpu_ms:.2f} CPU ms/pair to decode, average and encode; fusepipe "
        f"{against.ours_cpu_ms:.2f}: {against.ratio_percent:.0f} % of ffmpeg's speed, start-up left out",
        *([steady] if against.pairs_per_s else []),
        f"memory      {against.page_faults:.0f} pages mapped per pair after start-up, {peak}",
    ]


def _of_free(report: BenchReport) -> str:
    share, others = report.share_of_free_percent, report.end_to_end.cores_of_others
    return f", {share:.0f} % of the cores left by other programs" if share is not None and (others or 0) > 0.1 else ""


def soak_lines(report: SoakReport) -> list[str]:
    """The soak test as text."""
    early = "" if report.finished else ", stopped by the time limit"
    slope = UNKNOWN if report.slope_kib is None else f"{report.slope_kib:+.1f} KiB per 1000 pairs"
    if report.samples and report.slope_kib is None:
        slope = f"unknown: too short ({report.samples} samples)"
    return [
        f"{report.pairs} pairs in {report.seconds:.1f} s, {report.pairs_per_s:.1f} pairs/s{early}",
        _engine_line(report.engine),
        f"memory      {slope} over the last two thirds ({report.samples} samples)",
        f"before      {_held(report.before)}",
        f"after       {_held(report.after)}",
    ]


def engine_lines(bench: EngineBench) -> list[str]:
    """The table of engines as text."""
    width, height = bench.size
    rates = ", ".join(f"{rate:g} GOP/s in {name}" for name, rate in bench.gops.items())
    lines = [
        f"{bench.cpu}, {bench.cores:g} {'core' if bench.cores == 1 else 'cores'}",
        f"{bench.model}, {width}x{height}: {bench.gmacs:g} GMAC per pair",
        f"limit: a chain of 3x3 convolutions of {bench.channels} channels reaches {rates}",
        "",
        f"{'':20}{'ms':>9}{'CPU ms':>9}{'pairs/s':>9}{'x limit':>9}{'x torch':>9}{'dB':>8}{'max':>5}",
    ]
    for row in bench.rows:
        limit, torch = (f"{value:g}" if value is not None else "" for value in (row.of_limit, row.of_torch))
        lines.append(
            f"{row.backend + ' ' + row.precision:20}{row.wall_ms:9.2f}{row.cpu_ms:9.2f}{row.pairs_per_s:9.1f}"
            f"{limit:>9}{torch:>9}{row.psnr_db:8.1f}{row.max_abs:5}"
        )
    lines += ["", "CPU ms: CPU time / cores, the time on an idle machine; dB and max: difference from fp32"]
    return lines + [f"not run: {name}: {reason}" for name, reason in bench.missing.items()]


def _held(held: Held) -> str:
    if held.rss_kib is None:
        return UNKNOWN
    return f"{held.rss_kib / 1024:.1f} MiB, {held.threads} threads, {held.descriptors} descriptors"
