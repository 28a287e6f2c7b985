"""``fusepipe train figures``: the paper's Figures 5 and 6."""

from __future__ import annotations

from pathlib import Path

import click

from fusepipe.commands.console.options import examples
from fusepipe.commands.console.training import require_training
from fusepipe.core.errors import SourceError
from fusepipe.core.files import write_text


@click.command(
    "figures",
    short_help="Draw stage 1 with and without the discriminator.",
    epilog=examples(
        "fusepipe train figures --with runs/a --without runs/b --photographs natural --out runs/figures",
    ),
)
@click.option("--with", "with_run", required=True, type=click.Path(path_type=Path), help="A stage 1.")
@click.option(
    "--without", "without_run", required=True, type=click.Path(path_type=Path), help="One with `adversarial: 0`."
)
@click.option("--photographs", required=True, type=click.Path(path_type=Path), help="Folder; its first two are shown.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the figures.")
def command(with_run: Path, without_run: Path, photographs: Path, out: Path) -> None:
    """Draw stage 1 with and without the discriminator: loss (Fig. 5) and images (Fig. 6)."""
    require_training()
    from fusepipe.core.image_files import write_pixels
    from fusepipe.train.checkpoint import make_folder
    from fusepipe.train.data.image_folders import images_below
    from fusepipe.train.data.training_images import read_training_luma
    from fusepipe.train.figures import WITH, WITHOUT, plot, read_curve, reconstruct, side_by_side
    from fusepipe.train.session.mfe import WEIGHTS
    from fusepipe.train.weights import load_mfe

    make_folder(out)
    runs = {WITH: with_run, WITHOUT: without_run}
    # the terms that both have: the adversarial one is in only one of them
    curves = {name: read_curve(run, ("train/pixel", "train/ssim")) for name, run in runs.items()}
    files = images_below(photographs)[:2]
    if not files:
        raise SourceError(f"{photographs}: no photographs")
    images = [read_training_luma(path) for path in files]
    columns = {"photograph": images}
    for name, run in runs.items():
        network = load_mfe(run / WEIGHTS)
        columns[name] = [reconstruct(network, image) for image in images]
    curve_file, image_file = out / "stage1-loss.svg", out / "stage1-images.png"
    write_text(curve_file, plot(curves, "Stage 1", "L_pixel + (1 - SSIM)"))
    write_pixels(image_file, side_by_side(columns))
    click.echo(f"{curve_file}, {image_file}")
