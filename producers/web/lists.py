"""What lists are asked by: cursors (where a page ended), limits, moments."""

import base64
import binascii
import json
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BeforeValidator, Strict

from producers.web.problems import Refused

Cursor = Annotated[
    str | None,
    Query(max_length=500, description="`next` of the page before; unset: the first page."),
]


def _iso_only(given: object) -> object:
    """Refuse what pydantic takes for seconds since 1970."""
    if isinstance(given, str) and given.lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("write it as 2026-11-01T12:00:00Z")
    return given


Moment = Annotated[AwareDatetime, Strict(False), BeforeValidator(_iso_only)]
Limit = Annotated[int, Query(ge=1, le=1_000, description="Rows of a page.")]


def write(moment: datetime, row_id: str) -> str:
    """Return the cursor of the row that a page ended with."""
    text = json.dumps([moment.isoformat(), row_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the row that a cursor stands for; None without one.

    Raises:
        Refused: It is not a cursor of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, row_id = json.loads(text)
        found = datetime.fromisoformat(moment)
        if found.tzinfo is None or not isinstance(row_id, str) or "\0" in row_id:
            raise ValueError(cursor)
        row_id.encode()
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_cursor",
            "Invalid cursor: use `next` of the page before as it is.",
        ) from None
    return found, row_id
