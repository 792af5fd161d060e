"""The OpenAPI document: what FastAPI knows of the routes, with the models that are read by hand."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from producers.web.problems import Problem


def of(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _add(schemas, "Problem", Problem.model_json_schema(ref_template=_REF))
        for operation in (one for path in document["paths"].values() for one in path.values()):
            _name_bodies(operation, schemas)
        app.openapi_schema = document
    return app.openapi_schema


_REF: Final = "#/components/schemas/{model}"


def _name_bodies(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give each body that a route described inline a name, which generated clients show."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if schema.get("type") == "object" and "title" in schema:
            _add(schemas, schema["title"], schema)
            content["schema"] = {"$ref": _REF.format(model=schema["title"])}


def _add(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    schemas |= schema.pop("$defs", {})
    schemas[name] = schema
