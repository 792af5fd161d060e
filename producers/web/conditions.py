"""Conditional requests (RFC 9110): ETag, If-None-Match, If-Match."""

import hashlib
import re
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from producers import json_rows
from producers.web.problems import Refused

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
# Of an answer, what the 304 in its place says too (RFC 9110, 15.4.5).
_KEPT: Final = ("Cache-Control", "Vary")
# Of routes that take If-Match, for the OpenAPI document.
DESCRIBED: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "If-Match",
            "in": "header",
            "required": False,
            "description": "ETag of what was read: 412 if it has changed since.",
            "schema": {"type": "string"},
        }
    ]
}


def tag(body: bytes) -> str:
    """Return the ETag of an answer's bytes."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def tag_of(document: object) -> str:
    """Return the ETag of the answer that has this document."""
    return tag(json_rows.text(document).encode())


def answered(request: Request, response: Response) -> Response:
    """Give the answer to a GET its ETag; 304 where the caller has it already."""
    if request.method != "GET" or type(response) is not Response:
        return response  # such as a stream, which has no bytes yet
    if response.status_code != HTTPStatus.OK:
        return response
    found = response.headers.setdefault("ETag", tag(bytes(response.body)))
    given = request.headers.get("if-none-match")
    if given is None or not _names(given, found):
        return response
    kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": found} | kept)


def is_conditional(request: Request) -> bool:
    """Whether a request is only to be done in a state that it names."""
    return "if-match" in request.headers or "if-none-match" in request.headers


def refuse(request: Request) -> None:
    """Refuse a condition where a route would not ask it: what is on condition is not just done.

    Raises:
        Refused: There is one (400).
    """
    if is_conditional(request):
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "condition_unsupported",
            "This address takes neither If-Match nor If-None-Match: leave them out.",
        )


def check(request: Request, current: object | None) -> None:
    """Check the conditions of a request that changes something.

    Args:
        request: With If-Match or If-None-Match.
        current: The document that a GET would answer now; None without one.

    Raises:
        Refused: It is not the one that the caller has read, or it exists.
    """
    found = None if current is None else tag_of(current)
    wanted, unwanted = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if wanted is not None and (found is None or not _names(wanted, found, strong=True)):
        raise _failed("It was changed since it was read, or does not exist: read it again.")
    if unwanted is not None and found is not None and _names(unwanted, found):
        raise _failed("It exists already, in the state that If-None-Match excludes.")


def _names(header: str, found: str, *, strong: bool = False) -> bool:
    if header.strip() == "*":
        return True
    given = _TAG.finditer(header)
    return any(one[1] == found and not (strong and one[0].startswith("W/")) for one in given)


def _failed(sentence: str) -> Refused:
    return Refused(HTTPStatus.PRECONDITION_FAILED, "precondition_failed", sentence)
