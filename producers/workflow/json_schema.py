"""The JSON Schema of definitions: editors complete and check by it."""

from typing import Any

from shared.workflow.definition import Definition
from shared.workflow.kinds import kinds

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a definition, with the fields of each kind under `with`."""
    schema = Definition.model_json_schema(by_alias=True)
    step = schema["$defs"]["StepSpec"]
    known = kinds().values()
    step["properties"]["uses"] = {
        "description": "The step's kind.",
        "anyOf": [{"const": kind.name, "description": kind.about} for kind in known],
    }
    step["allOf"] = []
    for kind in known:
        fields = kind.fields.model_json_schema(by_alias=True)
        schema["$defs"] |= fields.pop("$defs", {})
        chosen = {"properties": {"uses": {"const": kind.name}}, "required": ["uses"]}
        taken = {"properties": {"with": _open(fields)}}
        step["allOf"].append({"if": chosen, "then": taken})
    return {"$schema": DIALECT, **schema, "title": "Ailydian workflow"}


def _open(fields: dict[str, Any]) -> dict[str, Any]:
    """A kind's fields, each of which may be an expression instead."""
    expression = {"type": "string", "pattern": r"\$\{\{"}
    properties = {
        name: {"anyOf": [expression, value]} for name, value in fields.get("properties", {}).items()
    }
    return {**fields, "properties": properties}
