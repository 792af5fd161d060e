"""Kind `http`: one request to a public address, its answer as JSON or text."""

import json
import math
from http import HTTPStatus
from typing import Any, Final, NoReturn

from shared.egress import fetching
from shared.egress.fetching import FetchLimits, FetchRequest, Reply, ReplyRefused
from shared.egress.targets import policy_of
from shared.errors import PermanentError, TransientError
from shared.models.providers.answers import retry_after_s
from shared.models.providers.shaping import cleaned
from shared.observability.redaction import is_sensitive
from shared.settings import settings
from shared.workflow.kinds import HttpWith
from workers.steps.step import Step
from workers.steps.table import step_kind

_TRY_AGAIN: Final = frozenset({408, 425, 429})
_NOT_SAFE: Final = frozenset({"POST", "PATCH"})


class AnswerUnexpected(PermanentError):
    """The other side answered with a status that the step does not expect."""

    code = "answer_unexpected"


class AnswerDelayed(TransientError):
    """The other side is busy or has a fault of its own, and may answer later."""

    code = "answer_delayed"


@step_kind("http")
def http(given: HttpWith, step: Step) -> object:
    """Return {status, headers, body}. Headers that hold secrets, such as cookies, are left out.

    Raises:
        AddressRefused: The address is not one that may be fetched.
        AnswerDelayed: 408, 425, 429 or 5xx, which the step does not expect.
        AnswerUnexpected: Any other status that it does not expect.
        ReplyRefused: The answer is too large, or is not the JSON that it says it is.
        TransientError: Nobody answers, or not in time.
    """
    reply = fetching.fetch(
        _request(given, step), FetchLimits(bytes_max=given.bytes_max), policy=policy_of(settings())
    )
    if not _is_expected(given, reply.status):
        refuse(given.method, reply)
    shown = {name: cleaned(text) for name, text in reply.headers.items() if not is_sensitive(name)}
    return {"status": reply.status, "headers": shown, "body": _body(reply)}


def _request(given: HttpWith, step: Step) -> FetchRequest:
    headers = dict(given.headers)
    named = {name.lower() for name in headers}
    body = b""
    if given.json_body is not None:
        body = json.dumps(given.json_body, ensure_ascii=False, allow_nan=False).encode()
        if "content-type" not in named:
            headers["Content-Type"] = "application/json"
    elif given.body is not None:
        body = given.body.encode()
        if "content-type" not in named:
            headers["Content-Type"] = "text/plain; charset=utf-8"
    if given.method in _NOT_SAFE and "idempotency-key" not in named:
        headers["Idempotency-Key"] = step.step_id  # of all attempts: a good server does it once
    if step.traceparent and "traceparent" not in named:
        headers["Traceparent"] = step.traceparent
    return FetchRequest(given.method, given.url, headers, body)


def _is_expected(given: HttpWith, status: int) -> bool:
    if given.expect:
        return status in given.expect
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def refuse(method: str, reply: Reply) -> NoReturn:
    """Say who must act. The body is not repeated: it may hold what we sent.

    Raises:
        AnswerDelayed: The other side is busy or at fault, and may answer later.
        AnswerUnexpected: Any other status.
    """
    said = f"{method} {reply.host} was answered with {reply.status}."
    if reply.status in _TRY_AGAIN or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise AnswerDelayed(said, retry_after_s=retry_after_s(reply.headers))
    raise AnswerUnexpected(said)


def _body(reply: Reply) -> object:
    """The body as its type says: JSON as JSON, everything else as text."""
    kind, _, parameters = reply.headers.get("content-type", "").lower().partition(";")
    if kind.strip() == "application/json" or kind.strip().endswith("+json"):
        return _json(reply)
    named = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'")
    try:
        return cleaned(reply.body.decode(named or "utf-8"))
    except (UnicodeError, LookupError):
        raise ReplyRefused(f"{reply.host} answered with something that is not text.") from None


def _json(reply: Reply) -> object:
    """Strictly: nothing that two readers, or Postgres, would take for something else."""
    if not reply.body:
        return None
    try:
        text = reply.body.decode()
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_finite,
        )
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate ends here
    except (ValueError, RecursionError):
        raise ReplyRefused(f"{reply.host} answered with JSON that is not valid.") from None
    if "\\u0000" in text:
        raise ReplyRefused(f"{reply.host} answered with NUL, which Postgres cannot store.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
