"""The base of all configuration models: frozen, no unknown keys, filled by key or by Python name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from fusepipe.core.units import BitsPerSecond, Bytes, Kelvins, Metres, Nanoseconds
from fusepipe.core.yaml_models import field_keys


def later_values(*values: str) -> dict[str, Any]:
    """``json_schema_extra`` of a key with values that are not available in this version."""
    return {"unavailable_values": list(values)}


def _refuse_bool(value: Any) -> Any:
    # pydantic accepts True as 1
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


NotBool = BeforeValidator(_refuse_bool)


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("should be [low, high] with low below high")
    return value


_Value = Annotated[float, Field(ge=-65535, le=65535), NotBool]
ValueInterval = Annotated[tuple[_Value, _Value], AfterValidator(_rising)]
"""Values of black and white: counts, or degrees."""


class ConfigModel(BaseModel):
    """A frozen model that refuses unknown keys.

    In a file only the keys (aliases) are valid. From Python the attribute names are too, and a number
    under a name that ends in ``_ns``, ``_bps``, ``_bytes``, ``_k`` or ``_m`` has that unit.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # the input may be a URL with a password
        hide_input_in_errors=True,
        use_attribute_docstrings=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _python_names(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or (info.context or {}).get("yaml"):
            return data
        keys = {name: key for key, name in field_keys(cls).items()}
        return {keys.get(name, name): _with_unit(name, value) for name, value in data.items()}


def _with_unit(name: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and name.endswith("_ns") and value == int(value):
        return Nanoseconds(value)
    if number and name.endswith("_bps") and value == int(value):
        return BitsPerSecond(value)
    if number and name.endswith("_bytes") and value == int(value):
        return Bytes(value)
    if number and name.endswith("_k"):
        return Kelvins(value)
    if number and name.endswith("_m"):
        return Metres(value)
    return value
