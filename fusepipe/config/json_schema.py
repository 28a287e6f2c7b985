"""The JSON schema of rigs.yaml, for editors and other programs."""

from __future__ import annotations

from typing import Any

from fusepipe.config.gain import AGC_MODES
from fusepipe.config.schema import RigFile
from fusepipe.core.units import format_duration

# Keywords that restrict values; all other keywords of a property are annotations.
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "pattern", "minItems", "maxItems", "minProperties"}
_SHAPE = _LIMITS | {"$ref", "anyOf", "const", "enum", "items", "oneOf", "prefixItems", "type"}
_SHAPE |= {"additionalProperties", "patternProperties", "propertyNames"}

ENVIRONMENT = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) with each key's description, default, limits and pattern of its unit.

    ``"available": false`` and ``"unavailable_values"`` mark what this version rejects.
    """
    schema = RigFile.model_json_schema(mode="validation")
    for model in (schema, *schema["$defs"].values()):
        for key, spec in model.get("properties", {}).items():
            model["properties"][key] = _for_files(spec)
    for name in ("Defaults", "RigBody"):
        section = schema["$defs"][name]["properties"]["sync"]
        section["anyOf"] = [{"$ref": section.pop("$ref")}, {"const": "auto"}]
    agc = schema["$defs"]["SourceConfig"]["properties"]["agc"]
    agc["anyOf"].insert(0, {"enum": list(AGC_MODES)})
    schema["properties"]["rigs"]["additionalProperties"] = False  # the pattern restricts the names
    schema["$defs"]["Environment"] = {
        **ENVIRONMENT,
        "description": "Text with an environment variable, ${NAME} or ${NAME:-default}, in place of the value.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fusepipe rigs"}


def _for_files(spec: dict[str, Any]) -> dict[str, Any]:
    """A property as files have it: durations with units, and variables where a value is not text."""
    shape = {name: spec[name] for name in spec.keys() & _SHAPE}
    rest = {name: value for name, value in spec.items() if name not in _SHAPE and name != "title"}
    if rest.pop("quantity", "") == "duration" and rest.get("default"):
        rest["default"] = format_duration(rest["default"])
    if isinstance(rest.get("default"), dict):
        del rest["default"]  # an omitted section has the defaults of its own keys
    if spec.get("type") in ("array", "object") or "$ref" in spec or spec == {"type": "string"}:
        return {**shape, **rest}
    if shape == {"type": "string"} or shape.get("const") == 1:
        return {**shape, **rest}
    members = shape["anyOf"] if set(shape) == {"anyOf"} else [shape]
    return {"anyOf": [*members, {"$ref": "#/$defs/Environment"}], **rest}
