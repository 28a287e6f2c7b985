"""``fusepipe verify-engine``: repeats the verification of an engine on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fusepipe.commands.console.options import device_option, examples, json_option
from fusepipe.commands.console.values import two_folders


@click.command(
    "verify-engine",
    epilog=examples(
        "fusepipe verify-engine night.plan --images ir vis",
    ),
)
@click.argument("engine", type=click.Path(path_type=Path))
@click.option(
    "--images",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="IR VIS",
    callback=two_folders,
    help="Folders of registered pairs.",
)
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX file, if it was built from one of yours.")
@device_option
@json_option
def command(
    engine: Path, images: tuple[Path, Path] | None, model: Path | None, device: str | None, as_json: bool
) -> None:
    """Check hashes and versions of ENGINE and verify it again on this machine.

    The exit code is 4 if it does not fit, does not have its precision or does not agree with the fp32 network.
    """
    from fusepipe.commands.build_engine import verification_lines
    from fusepipe.workflows.verify_engine import verify_engine

    verified = verify_engine(engine, images, model, device)
    manifest, verification = verified.manifest, verified.verification
    if as_json:
        facts = {"ok": True, "engine": str(engine), "precision": manifest.achieved_precision}
        facts |= {"verdict": verified.verdict}
        click.echo(json.dumps({**facts, **verification.as_json()}, indent=2))
        return
    lines = [
        f"engine      {engine}: {manifest.model} on {manifest.backend} {manifest.library_version}, "
        f"{manifest.achieved_precision}, built {manifest.built}",
        *verification_lines(verification),
        verified.verdict,
    ]
    click.echo("\n".join(lines))
