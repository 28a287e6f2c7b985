"""``fusepipe train ablation`` and ``figures``: proof that the parts of the paper's network do what they should."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.training import PAIRS, PHOTOGRAPHS, Run, require_training, run_options
from fusepipe.core.errors import Interrupted, SourceError


@click.command("ablation")
@run_options(PAIRS, steps=False, seed=False)
@click.option("--photographs", required=True, type=click.Path(path_type=Path), help=PHOTOGRAPHS)
@click.option("--test", required=True, type=click.Path(path_type=Path), help="Folder with ir/ and vis/ to score on.")
@click.option("--selection", help="Only these pairs of TNO: n25 is what the paper's table is compared with.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that score.")
def ablation(run: Run, photographs: Path, test: Path, selection: str | None, seeds: int, jobs: int) -> None:
    """Train `mfe` whole, without D, without A and without S, with several seeds; print the table of Table 2.

    The default configuration is a reduced budget, the same for every run. The test pairs are never trained on.
    """
    require_training()
    from fusepipe.evaluation.report.published import printed_values
    from fusepipe.evaluation.tno_catalogue import pair_names
    from fusepipe.train.ablation import run_ablation, scored_pairs, table, wins
    from fusepipe.train.configs.mfe import load_mfe_config
    from fusepipe.train.session.mfe import mfe_session

    settings = load_mfe_config(run.config, shipped="ablation")
    pairs = scored_pairs(test, pair_names(selection) if selection else None)
    with mfe_session(run.device, run.out, resume=run.resume) as this:
        rows = run_ablation(this, settings, photographs, run.data, pairs, run.out, seeds=seeds, jobs=jobs)
    if rows is None:
        raise Interrupted(f"stopped; go on with --resume --out {run.out}")
    text = table(rows, printed_values("table2"))
    (run.out / "table2.md").write_text(text + "\n", encoding="utf-8")
    report = {"rows": {row.variant: dict(row.scores) for row in rows}, "full_is_above_in": wins(rows)}
    click.echo(json.dumps(report, indent=2) if run.as_json else text)


@click.command("figures", short_help="Draw stage 1 with and without the discriminator.")
@click.option("--with", "with_run", required=True, type=click.Path(path_type=Path), help="A stage 1.")
@click.option(
    "--without", "without_run", required=True, type=click.Path(path_type=Path), help="One with `adversarial: 0`."
)
@click.option("--photographs", required=True, type=click.Path(path_type=Path), help="Folder; its first two are shown.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the figures.")
def figures(with_run: Path, without_run: Path, photographs: Path, out: Path) -> None:
    """Draw stage 1 with and without the discriminator: its loss (Fig. 5) and its pictures (Fig. 6)."""
    require_training()
    import cv2

    from fusepipe.train.checkpoint import make_folder
    from fusepipe.train.data.folders import images_below
    from fusepipe.train.data.images import read_luma
    from fusepipe.train.figures import WITH, WITHOUT, plot, read_curve, reconstruct, side_by_side
    from fusepipe.train.session.mfe import WEIGHTS
    from fusepipe.train.weights import load_mfe

    make_folder(out)
    runs = {WITH: with_run, WITHOUT: without_run}
    # what both have in common: the adversarial term is only in one
    curves = {name: read_curve(run, ("train/pixel", "train/ssim")) for name, run in runs.items()}
    files = images_below(photographs)[:2]
    if not files:
        raise SourceError(f"{photographs}: no photographs")
    images = [read_luma(path) for path in files]
    columns = {"photograph": images}
    for name, run in runs.items():
        network = load_mfe(run / WEIGHTS)
        columns[name] = [reconstruct(network, image) for image in images]
    (out / "stage1-loss.svg").write_text(plot(curves, "Stage 1", "L_pixel + (1 - SSIM)"), encoding="utf-8")
    cv2.imwrite(str(out / "stage1-pictures.png"), side_by_side(columns))
    click.echo(f"{out / 'stage1-loss.svg'}, {out / 'stage1-pictures.png'}")


COMMANDS = (ablation, figures)
