"""Rows as JSON, the same for `--json` and for the HTTP API: camelCase names, times in UTC."""

import dataclasses
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any


def as_document(row: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Convert a row to a dictionary with camelCase names: `createdAt` for created_at."""
    return {camel(field.name): getattr(row, field.name) for field in dataclasses.fields(row)}


def text(document: object) -> str:
    """Write one JSON document; times are ISO 8601 in UTC, money is a string."""
    return json.dumps(document, ensure_ascii=False, default=_plain)


def camel(name: str) -> str:
    """Return a field's name as JSON has it."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"no JSON for {type(value).__name__}")
