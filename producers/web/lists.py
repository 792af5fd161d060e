"""What lists are asked by: cursors (where a page ended), limits, moments."""

import base64
import binascii
import hashlib
import json
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Strict

from producers.web.problems import Refused

# The address that is being asked: a cursor is of the list that it came from.
asked: ContextVar[str] = ContextVar("asked", default="")

Cursor = Annotated[
    str | None,
    Query(
        max_length=500,
        pattern=r"^[^\u0000]*$",
        description="`next` of the page before; unset: the first page.",
    ),
]


def _iso_only(given: object) -> object:
    """Refuse what pydantic takes for seconds since 1970."""
    if isinstance(given, str) and given.lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("write it as 2026-11-01T12:00:00Z")
    return given


def _within_years(given: datetime) -> datetime:
    """Return a time in UTC; the end of the year 9999 in a zone behind it is none."""
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time must be in the years 1 to 9999 of UTC") from None


ADDRESS_CHARS = 16
CONDITION_CHARS_MAX = 1_000  # of a field and its value
Moment = Annotated[
    AwareDatetime, Strict(False), BeforeValidator(_iso_only), AfterValidator(_within_years)
]
Limit = Annotated[int, Query(ge=1, le=1_000, description="Rows of a page.")]


def write(moment: datetime, row_id: str) -> str:
    """Return the cursor of the row that a page ended with."""
    return write_texts(moment.isoformat(), row_id)


def write_texts(first: str, second: str) -> str:
    """Return the cursor of a row that a list is ordered by two texts at."""
    text = json.dumps([first, second, _address()])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the row that a cursor stands for; None without one.

    Raises:
        Refused: It is not a cursor of ours.
    """
    texts = read_texts(cursor)
    if texts is None:
        return None
    moment, row_id = texts
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        raise invalid_cursor() from None
    if found.tzinfo is None:
        raise invalid_cursor()
    try:
        return _within_years(found), row_id
    except ValueError:
        raise invalid_cursor() from None


def read_texts(cursor: str | None) -> tuple[str, str] | None:
    """Return the two texts of a row that a cursor stands for; None without one.

    Raises:
        Refused: It is not a cursor of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        first, second, address = json.loads(text)
        for one in (first, second):
            if not isinstance(one, str) or "\0" in one:
                raise ValueError(cursor)
            one.encode()
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise invalid_cursor() from None
    if address != _address():
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_cursor",
            "The cursor is of another list: use `next` of a page of this one.",
        )
    return first, second


def _address() -> str:
    """Return what a cursor has of its list's address: addresses may be long, cursors not."""
    return hashlib.sha256(asked.get().encode()).hexdigest()[:ADDRESS_CHARS]


def invalid_cursor() -> Refused:
    """Return the error of a cursor that is not one of ours."""
    return Refused(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_cursor",
        "Invalid cursor: use `next` of the page before as it is.",
    )
