"""``fusepipe verify-engine``: repeats an engine's proof on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.options import json_option


@click.command("verify-engine")
@click.argument("engine", type=click.Path(path_type=Path))
@click.option(
    "--images", nargs=2, type=click.Path(path_type=Path), metavar="IR VIS", help="Folders of registered pairs."
)
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX file, if it was built from one of yours.")
@json_option
def command(engine: Path, images: tuple[Path, Path] | None, model: Path | None, as_json: bool) -> None:
    """Check hashes and versions of ENGINE and repeat its proof on this machine.

    The exit code is 4 where it does not fit, does not have its precision or no longer agrees with the fp32 network.
    """
    from fusepipe.commands.build_engine import proof_lines
    from fusepipe.workflows.build_engine import verify_engine

    verified = verify_engine(engine, images, model)
    manifest, proof = verified.manifest, verified.proof.as_json()
    if as_json:
        click.echo(
            json.dumps({"ok": True, "engine": str(engine), "precision": manifest.achieved_precision, **proof}, indent=2)
        )
        return
    lines = [
        f"engine      {engine}: {manifest.model} on {manifest.backend} {manifest.library_version}, "
        f"{manifest.achieved_precision}, built {manifest.built}",
        *proof_lines(proof),
        "It fits this machine and agrees.",
    ]
    click.echo("\n".join(lines))
