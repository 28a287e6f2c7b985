"""``fusion`` of ``rigs.yaml``: the method, its backend and precision, an engine, the GPU."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from fusepipe.config.base import ConfigModel, later_values
from fusepipe.config.locations import check_text
from fusepipe.core.models import BACKENDS, MODELS, PRECISIONS
from fusepipe.core.suggest import did_you_mean

Backend = Literal["auto", "openvino", "tensorrt", "tensorrt-rtx", "torch"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
# names that core.models does not list yet are reserved
_LATER_BACKENDS = [name for name in get_args(Backend) if name != "auto" and name not in BACKENDS]
_LATER_PRECISIONS = [name for name in get_args(Precision) if name not in PRECISIONS]


def _known_model(value: str) -> str:
    if value not in MODELS:
        raise ValueError(f"unknown model ({did_you_mean(value, list(MODELS))})")
    return value


def _device_text(value: object) -> object:
    """``device: 0`` is a number in YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_DEVICE = r"^(\d{1,3}|(GPU-|MIG-)?[0-9a-fA-F-]{4,36})$"
Device = Annotated[
    str,
    BeforeValidator(_device_text),
    Field(pattern=_DEVICE),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 999}, {"type": "string"}]}),
]


class FusionConfig(ConfigModel):
    """The fusion method, and how it is computed."""

    model: Annotated[str, AfterValidator(_known_model)] = Field(
        default="stream",
        description="The fusion method. stream is the neural network for video, stream-hq a larger one for faster "
        "machines; mfe, densefuse, fusiongan and ddcgan are networks for still images, too slow for live "
        "video on a CPU; the others are classical.",
        json_schema_extra={"enum": list(MODELS)},
    )
    backend: Backend = Field(
        default="auto",
        description="What runs the network; auto selects the best one available on this machine and reports it.",
        json_schema_extra=later_values(*_LATER_BACKENDS),
    )
    precision: Precision = Field(
        default="auto",
        description="Precision of the network; auto selects the fastest that is accurate enough.",
        json_schema_extra=later_values(*_LATER_PRECISIONS),
    )
    engine: Annotated[str, AfterValidator(check_text)] | None = Field(
        default=None,
        description="An engine made by fusepipe build-engine, relative to this file; default: the cache is searched.",
    )
    device: Device | None = Field(
        default=None,
        description="The NVIDIA GPU: its index, or its UUID as nvidia-smi -L prints it; default: the first one.",
    )
    on_overload: Literal["skip", "lighter"] = Field(
        default="skip",
        description="What a rig of live cameras does on a CPU that is too slow for the model: skip fuses the newest "
        "pair and drops the others; lighter changes to a lighter model (stream, then mean), labels its frames, and "
        "returns to the model when the CPU is fast enough for it.",
    )
