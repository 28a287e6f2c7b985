"""Files of trained weights, as they ship: safetensors whose metadata says which network they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusepipe.core.errors import EngineError, UsageError
from fusepipe.train.configs.mfe import NetworkParts
from fusepipe.train.networks.mfe import MfeNet
from fusepipe.train.networks.pyramid import PyramidNet, with_levels
from fusepipe.train.tensors import read_tensors, write_tensors

STUDENTS = ("stream", "stream-hq")
MFE = "mfe"
FIRST_STAGES = ("stream-first", "mfe-first")
"""Weights of ``stream`` and of ``mfe`` after the first stage of their training, from which later ones start."""
_STUDENT_FORM = ("channels", "levels", "encoder_layers", "decoder_layers")


def save_student(path: Path, network: PyramidNet, metadata: Mapping[str, str]) -> None:
    """Writes a student with its form; ``metadata`` says where it comes from."""
    write_tensors(path, network.state_dict(), {"model": STUDENTS[0], **student_form(network), **metadata})


def student_form(network: PyramidNet) -> dict[str, str]:
    """Width, levels and depth of a student, as the metadata of its files."""
    layers = {"encoder_layers": str(len(network.encoder)), "decoder_layers": str(len(network.decoder))}
    return {"channels": str(network.channels), "levels": str(network.levels), **layers}


def load_student(path: Path) -> PyramidNet:
    """The student of a file written by :func:`save_student`, in evaluation mode on the CPU.

    Raises :class:`EngineError` for another file.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("model") not in STUDENTS:
        raise EngineError(f"{path}: not weights of a student network ({metadata.get('model') = })")
    if "levels" not in metadata:
        raise EngineError(f"{path}: weights of a student of version 0.1, which is not a pyramid network; retrain it")
    network = PyramidNet(*(int(metadata[name]) for name in _STUDENT_FORM))
    network.load_state_dict(tensors)
    return network.eval()


def initial_student(path: Path, form: Mapping[str, str]) -> PyramidNet:
    """A student's weights to start from; levels that ``form`` (see :func:`student_form`) has fewer are left out.

    Raises :class:`UsageError` where the weights are of another form.
    """
    given = load_student(path)
    levels = int(form["levels"])
    if levels < given.levels:
        given = with_levels(given, levels)
    if student_form(given) != form:
        raise UsageError(f"initial: {path} has {student_form(given)}, the configuration asks for {dict(form)}")
    return given.train()


def save_mfe(path: Path, network: MfeNet, metadata: Mapping[str, str]) -> None:
    """Writes ``mfe`` with the parts it has; ``metadata`` says where it comes from."""
    parts = {
        "dense": str(network.dense),
        "attention": str(network.attention is not None),
        "skips": str(network.skips),
        "reading": network.reading,
        "overshoot": repr(network.overshoot),
    }
    write_tensors(path, network.state_dict(), {"model": MFE, **parts, **metadata})


def load_mfe(path: Path) -> MfeNet:
    """The network of a file written by :func:`save_mfe`, in evaluation mode on the CPU.

    Raises :class:`EngineError` for another file.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("model") != MFE:
        raise EngineError(f"{path}: not weights of mfe ({metadata.get('model') = })")
    names = NetworkParts.model_fields.keys() & metadata.keys()  # older files have no overshoot
    network = NetworkParts.model_validate_strings({name: metadata[name] for name in names}).build()
    network.load_state_dict(tensors)
    return network.eval()


def initial_mfe(path: Path, parts: NetworkParts) -> MfeNet:
    """The network of stage 2 with the weights of ``path``, and a newly initialised attention where they have none.

    Raises :class:`UsageError` where the weights are those of a network with other parts.
    """
    start = load_mfe(path)
    if (
        start.dense != parts.dense
        or start.skips != parts.skips
        or (start.attention is not None and not parts.attention)
    ):
        raise UsageError(
            f"{path} is a network with {start.dense = }, {start.skips = }, attention = {start.attention is not None}, "
            f"the configuration asks for {parts!r}: start from weights of stage 1 of the same configuration"
        )
    network = parts.build()
    # what stage 1 does not have keeps its initialisation
    network.load_state_dict(network.state_dict() | start.state_dict())
    return network
