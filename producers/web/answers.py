"""Answers: how a document becomes bytes, and how a repeated request gets the same ones."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar, get_type_hints

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from producers import json_rows
from producers.queries.ledger import http_answers
from producers.queries.ledger.http_answers import KeptAnswer
from producers.web import conditions, lists
from producers.web.access import Acting
from producers.web.bodies import JSON
from producers.web.problems import Refused
from shared import db
from shared.db import Connection, Role

KEY_CHARS_MAX: Final = 255
REPEATED: Final = "Idempotent-Replayed"
# An answer is its caller's: no cache between keeps it, and the caller's own asks whether it holds.
PRIVATE: Final = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie",
    "X-Content-Type-Options": "nosniff",
}
Row = TypeVar("Row")
Place = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A document with its status and its own headers."""

    document: Any
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARS_MAX,
        pattern="^[ -~]+$",
        description="A request sent again with its key is done once and answered the same.",
        examples=["order-17"],
    ),
]


async def _keep_body(request: Request, key: _Key = None) -> None:
    if key is not None:
        request.state.body = await request.body()


async def _take_key(key: _Key = None) -> None:
    """Let the OpenAPI document name the header, and check it."""


async def _refuse_key(request: Request) -> None:
    if "idempotency-key" in request.headers:
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "idempotency_unsupported",
            "What this answers is shown once and not kept: leave Idempotency-Key out.",
        )


# Of each route that changes something: it can be answered by `once`.
REPEATABLE: Final = Depends(_keep_body)
# Of one that reads its body as it comes, and sets `request.state.body` to what makes two the same.
STREAMED: Final = Depends(_take_key)
# Of one that answers a secret.
SHOWN_ONCE: Final = Depends(_refuse_key)
OWN: Final = frozenset({STREAMED, SHOWN_ONCE})


def ok(document: object) -> Response:
    """Answer a request that changed nothing."""
    return _response(_kept(Answer(document), b""))


def ok_list(rows: Sequence[Any]) -> Response:
    """Answer a list that has one page."""
    return ok({"items": [json_rows.as_document(row) for row in rows]})


def answer(what: Answer) -> Response:
    """Answer a request that is not made repeatable by an Idempotency-Key."""
    return _response(_kept(what, b""))


def once(
    request: Request,
    acting: Acting,
    do: Callable[[Connection], Answer],
    *,
    role: Role = Role.APP,
) -> Response:
    """Do something in one transaction and answer it; with an Idempotency-Key, only once.

    The answer is stored in the transaction of what it answers, so that a lost answer can be asked
    for again: the second time gets the same bytes. An error is not stored: nothing was done.

    Args:
        request: Its header `Idempotency-Key` makes it repeatable, for a day.
        acting: Who does it, for which tenant; an Idempotency-Key is the tenant's, and of a person
            the session's.
        do: What is done; it is given the transaction.
        role: Of the transaction; in the relay's, one who names no tenant acts for all.

    Raises:
        Refused: The key was used for another request, or one is in flight.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        with _writing(request, acting, role) as conn:
            return _response(_kept(do(conn), b""))
    fingerprint = _fingerprint(request, acting)
    with _writing(request, acting, role) as conn:
        if not http_answers.lock_key(conn, key):
            raise Refused(
                HTTPStatus.CONFLICT,
                "idempotency_in_flight",
                "A request with this Idempotency-Key is being answered: ask again.",
                {"Retry-After": "1"},
            )
        kept = http_answers.select_answer(conn, key)
        if kept is None:
            kept = _kept(do(conn), fingerprint)
            http_answers.insert_answer(conn, key, kept)
            return _response(kept)
    if kept.fingerprint != fingerprint:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request: give each request its own.",
        )
    return _response(kept, repeated=True)


def page(rows: Sequence[Row], *, limit: int, place: Callable[[Row], Place]) -> Response:
    """Answer a page of a list.

    Args:
        rows: Of the page, in order.
        limit: How many it may have: a full page has a next one.
        place: Time and id of a row, by which the list is ordered.
    """
    following = lists.write(*place(rows[-1])) if len(rows) == limit else None
    return ok({"items": [json_rows.as_document(row) for row in rows], "next": following})


def page_of(item: type[BaseModel], *, name: str) -> type[BaseModel]:
    """Return the model of a page of a list, for the OpenAPI document."""
    following = (str | None, Field(description="Cursor of the next page; null on the last."))
    of: dict[str, Any] = {"items": (list[item], ...), "next": following}  # type: ignore[valid-type]
    return create_model(name, __config__=_EXACT, **of)


def list_of(item: type[BaseModel], *, name: str) -> type[BaseModel]:
    """Return the model of a list that has one page, for the OpenAPI document."""
    of: dict[str, Any] = {"items": (list[item], ...)}  # type: ignore[valid-type]
    return create_model(name, __config__=_EXACT, **of)


def model_of(row: type, *, name: str | None = None) -> type[BaseModel]:
    """Return the model of a row's JSON, for the OpenAPI document: its fields, in camelCase."""
    hints = get_type_hints(row)
    of: dict[str, Any] = {json_rows.camel(one.name): (hints[one.name], ...) for one in fields(row)}
    return create_model(name or row.__name__.removesuffix("Row"), __config__=_EXACT, **of)


def made(name: str, /, **of: Any) -> type[BaseModel]:  # noqa: ANN401 - types of fields
    """Return a model of these fields, for the OpenAPI document."""
    fields_of: dict[str, Any] = {field_name: (kind, ...) for field_name, kind in of.items()}
    return create_model(name, __config__=_EXACT, **fields_of)


def extended(base: type[BaseModel], *, name: str, **of: Any) -> type[BaseModel]:  # noqa: ANN401
    """Return a model with more fields than another, for the OpenAPI document."""
    more: dict[str, Any] = {field_name: (kind, ...) for field_name, kind in of.items()}
    return create_model(name, __base__=base, **more)


_EXACT: Final = ConfigDict(extra="forbid")


def tagged(document: object) -> Answer:
    """Return the answer to a change whose address answers this document from now on."""
    return Answer(document, headers={"ETag": conditions.tag_of(document)})


@contextmanager
def _writing(request: Request, acting: Acting, role: Role) -> Iterator[Connection]:
    tenant_id = acting.tenant if role is Role.APP else acting.tenant_id
    with acting.named(), db.transaction(tenant_id, role=role) as conn:
        if conditions.is_conditional(request):
            # Of two that have read the same, the second finds what the first has made of it.
            http_answers.lock_address(conn, request.url.path)
        yield conn


def _fingerprint(request: Request, acting: Acting) -> bytes:
    """Return what makes two requests the same: of people also the session, which some are about."""
    session = acting.by.session.id if acting.by.session else ""
    head = f"{session} {request.method} {request.url.path}?{request.url.query}\n"
    return hashlib.sha256(head.encode() + request.state.body).digest()


def _kept(answer: Answer, fingerprint: bytes) -> KeptAnswer:
    body = json_rows.text(answer.document).encode()
    headers = {"Content-Type": JSON, **answer.headers}
    return KeptAnswer(fingerprint, answer.status, headers, body)


def _response(kept: KeptAnswer, *, repeated: bool = False) -> Response:
    headers = PRIVATE | kept.headers | ({REPEATED: "true"} if repeated else {})
    return Response(kept.body, kept.status, headers)
