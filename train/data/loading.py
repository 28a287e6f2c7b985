"""Measures how fast crops are made: ``python -m fusepipe.train.data.loading --data DIR``.

The loader is no bottleneck while a step of the network takes longer than its batch.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from fusepipe.core.errors import FusepipeError
from fusepipe.train.data.camera_effects import CameraEffects
from fusepipe.train.data.crops import PairCrops, crop_batches
from fusepipe.train.data.decoded import DecodedImages
from fusepipe.train.data.folders import PAIRS


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the training's data sets.")
@click.option(
    "--pairs",
    type=click.Choice(sorted(PAIRS)),
    default="committed",
    show_default=True,
    help="The committed split, or all paired folders.",
)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--crop-px", type=click.IntRange(min=16), default=128, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True)
def main(data: Path, pairs: str, batch: int, crop_px: int, steps: int, workers: int) -> None:
    """Time and CPU time of a batch, with everything that cameras do to images switched on."""
    try:
        files = PAIRS[pairs](data).train
    except FusepipeError as error:
        raise click.ClickException(str(error)) from error
    camera = CameraEffects(noise=0.05, blur_px=1.0, shift_px=2.0)
    crops = PairCrops(files, DecodedImages(800), crop_px, camera, seed=0)
    for name in ("first pass", "from the cache"):
        began, used = time.perf_counter(), time.process_time()
        with crop_batches(crops, 0, steps, batch, workers=workers) as fetched:
            next(fetched)  # workers start slowly, once
            ready = time.perf_counter()
            for _ in fetched:
                pass
        took = (time.perf_counter() - ready) / max(1, steps - 1)
        cpu = time.process_time() - used
        click.echo(
            f"{name}: {1e3 * took:.1f} ms a batch of {batch} pairs of {crop_px}x{crop_px} with {workers} workers, "
            f"{ready - began:.1f} s until the first, {cpu:.1f} s of CPU time in this process"
        )


if __name__ == "__main__":
    main()
