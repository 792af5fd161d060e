"""Errors of the HTTP API as Problem Details (RFC 9457), in the sentences of the command line."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import psycopg
import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from producers import errors, json_rows
from producers.errors import Cause, Failure
from shared import field_errors
from shared.errors import AilydianError, PayloadRefused
from shared.observability import error_texts

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
# By the end of its code, an error tells its status; the others by who must act.
_BY_ENDING: Final = (
    ("_not_found", HTTPStatus.NOT_FOUND),
    ("nothing_to_explain", HTTPStatus.NOT_FOUND),
    ("_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    ("queue_full", HTTPStatus.TOO_MANY_REQUESTS),
    ("_sealed", HTTPStatus.CONFLICT),
    ("_busy", HTTPStatus.SERVICE_UNAVAILABLE),
    ("address_refused", HTTPStatus.UNPROCESSABLE_ENTITY),
    ("configuration", HTTPStatus.SERVICE_UNAVAILABLE),
    ("publisher_refused", HTTPStatus.FORBIDDEN),
    ("run_refused", HTTPStatus.CONFLICT),
    ("appeal_refused", HTTPStatus.CONFLICT),
)


class Invalid(BaseModel):
    """One invalid part of a request."""

    pointer: str = Field(
        description="Where, as a JSON Pointer: `/body/payload/n`, `/query/limit`, `/path/id`, "
        "`/header/If-Match`, `/lines/3`.",
        examples=["/body/priority"],
    )
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it; `code` is stable, `detail` is for people."""

    type: str = Field(examples=["urn:ailydian:problem:unknown_job"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Unknown job 'prob'; known jobs: ..."])
    code: str = Field(examples=["unknown_job"])
    errors: list[Invalid] | None = None


# In the OpenAPI document: what any request may be answered.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "The request failed.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


class InvalidJson(HTTPException):
    """A body that is not JSON, or has what cannot be stored."""

    code = "invalid_json"


class Refused(AilydianError):
    """A request that is refused by the API itself.

    Attributes:
        code: Stable, for programs.
        status: Of the answer.
        headers: Of the answer.
        invalid: The invalid parts of the request.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        invalid: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.invalid = invalid
        self.code = code  # type: ignore[misc]  # each instance has its own
        self.status = status
        self.headers = dict(headers or {})


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _any)
    for kind in (AilydianError, psycopg.Error, redis.RedisError):
        app.add_exception_handler(kind, _any)


def answer(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    invalid: Sequence[Mapping[str, str]] | None = None,
) -> Response:
    """Return the answer that tells a problem."""
    document: dict[str, Any] = {
        "type": f"urn:ailydian:problem:{code}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
    }
    if invalid is not None:
        document["errors"] = invalid
    return Response(json_rows.text(document), status, dict(headers or {}), MEDIA_TYPE)


def of(error: Exception) -> Response:
    """Return the answer for an exception that an endpoint raised."""
    if isinstance(error, Refused):
        return answer(
            error.status, error.code, str(error), headers=error.headers, invalid=error.invalid
        )
    failure = errors.told(error)
    status = _status(failure)
    headers = {}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if failure.cause is Cause.BUG:
        log.error("web.request_failed", error=error_texts.report(error))
        return answer(status, failure.code, "Internal error; the log of the server has it.")
    return answer(
        status, failure.code, failure.sentence, headers=headers, invalid=_invalid_fields(error)
    )


def _invalid_fields(error: Exception) -> list[dict[str, str]] | None:
    """Return the fields of a payload that a contract refuses; None where it is another error."""
    if not isinstance(error, PayloadRefused) or not error.fields:
        return None
    return [
        {"pointer": pointer(("body", "payload", *where)), "detail": why}
        for where, why in error.fields
    ]


def _status(failure: Failure) -> HTTPStatus:
    by_cause = {
        Cause.CALLER: HTTPStatus.UNPROCESSABLE_ENTITY,
        Cause.OPERATOR: HTTPStatus.CONFLICT,
        Cause.SERVER: HTTPStatus.SERVICE_UNAVAILABLE,
        Cause.BUG: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
    if failure.cause in {Cause.CALLER, Cause.OPERATOR}:
        for ending, status in _BY_ENDING:
            if failure.code.endswith(ending):
                return status
    return by_cause[failure.cause]


def _any(_request: Request, error: Exception) -> Response:
    return of(error)


def pointer(parts: Iterable[object]) -> str:
    """Return a JSON Pointer (RFC 6901) to what these names and numbers lead to."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def _left(_request: Request, _error: Exception) -> Response:
    """Answer nobody: the client closed the connection before its request had come whole."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    allowed = {}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed["Allow"] = ", ".join(sorted(_methods(request)))
    path = request.scope["path"]
    if error.status_code == HTTPStatus.NOT_FOUND and path.endswith("/") and path != "/":
        error = HTTPException(
            HTTPStatus.NOT_FOUND, "Nothing is at this address: leave out the / at its end"
        )
    return of_http(error, allowed)


def of_http(error: HTTPException, more: Mapping[str, str] | None = None) -> Response:
    """Return the answer for an error that has its status; `more` are headers of it."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {}) | dict(more or {})
    code = getattr(error, "code", status.name.lower())
    detail = (
        error.detail if error.detail != status.phrase else _SENTENCES.get(status, status.phrase)
    )
    return answer(status, code, f"{detail.rstrip('.')}.", headers=headers)


def _methods(request: Request) -> set[str]:
    """Return the methods of an address: each is a route of its own.

    Where an address is named in full, it is not one of those with a name in it.
    """
    path = request.scope["path"]
    routes: Sequence[Route] = request.app.state.routes
    found = [route for route in routes if route.path_regex.match(path)]
    named = min((len(route.param_convertors) for route in found), default=0)
    return {
        method
        for route in found
        if len(route.param_convertors) == named
        for method in _with_head(route.methods or ())
    }


def _with_head(methods: Collection[str]) -> set[str]:
    return {*methods, "HEAD"} if "GET" in methods else {*methods}


_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND: "Nothing is at this address: /openapi.json lists all",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address has no such method; Allow lists those it has",
}


def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it"
    found = [
        {
            "pointer": pointer(one["loc"]),
            "detail": field_errors.told(one, one.get("names", ())),
        }
        for one in error.errors()
    ]
    first = found[0]
    return answer(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        f"Invalid {first['pointer'].lstrip('/')}: {first['detail']}.",
        invalid=found,
    )
