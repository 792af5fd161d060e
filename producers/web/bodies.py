"""Bodies of requests that are read by hand, because one address takes more than one kind."""

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool

from producers.web.problems import InvalidJson, Refused
from shared import field_errors
from shared.errors import AilydianError, PayloadRefused
from shared.json_values import read_json

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PARSED_AT_ONCE_BYTES_MAX: Final = 64 * 1024
TYPE_CHARS_MAX: Final = 100  # of a media type, as a problem repeats it
ERRORS_MAX: Final = 100  # invalid lines that a problem names
Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")


class Body(BaseModel):
    """What a request asks for in JSON: no field that is not known, no `"5"` or `true` for a 5."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def _raw(request: Request) -> bytes:
    return await request.body()


RAW: Final = Depends(_raw)


def media_type(request: Request) -> str:
    """Return what the body is said to be, without parameters."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return said or JSON


def refuse_encoded(request: Request) -> None:
    """Refuse a body that is compressed.

    Raises:
        Refused: It is (415).
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_encoding",
            f"The Content-Encoding is {encoding[:TYPE_CHARS_MAX]!r}: send the body as it is, "
            "without compression.",
            {"Accept-Encoding": "identity"},
        )


def refuse_others(request: Request, taken: Collection[str]) -> None:
    """Refuse a body that is said to be of a media type that its route does not read.

    Args:
        request: One without a Content-Type has JSON.
        taken: What the route reads; with JSON also what is written in it, `application/*+json`.

    Raises:
        Refused: It is (415); the problem names what the route takes.
    """
    said = media_type(request)
    is_json = said.startswith("application/") and said.endswith("+json")
    if said in taken or (is_json and JSON in taken):
        return
    raise Refused(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        f"The Content-Type is {said[:TYPE_CHARS_MAX]!r}; this address takes {', '.join(taken)}.",
    )


def parsed(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON value of a body.

    Raises:
        InvalidJson: It is not JSON, or not what every door accepts; see `shared.json_values`.
    """
    try:
        return read_json(body.decode())
    except UnicodeDecodeError:
        raise InvalidJson(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is not UTF-8.") from None
    except PayloadRefused as error:
        raise InvalidJson(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None


async def parsed_aside(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON value of a body, of a large one without keeping other requests waiting.

    Raises:
        InvalidJson: As `parsed`.
    """
    if len(body) <= PARSED_AT_ONCE_BYTES_MAX:
        return parsed(body)
    return await run_in_threadpool(parsed, body)


def read(model: type[Model], body: bytes) -> Model:
    """Read one JSON object.

    Raises:
        InvalidJson: It is not JSON, or not what every door accepts.
        RequestValidationError: It does not fit the model.
    """
    value = parsed(body)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(_located(error, model)) from None


def _located(error: ValidationError, model: type[BaseModel]) -> list[dict[str, Any]]:
    names = [one.alias or name for name, one in model.model_fields.items()]
    return [
        {**one, "loc": ("body", *one["loc"]), "names": names if len(one["loc"]) == 1 else ()}
        for one in error.errors()
    ]


def described(model: type[BaseModel], *, lines_of: type[BaseModel] | None = None) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that is read by hand.

    Args:
        model: Of a JSON body.
        lines_of: Of each line of an NDJSON body, where that is taken too.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    content: dict[str, Any] = {JSON: {"schema": schema}}
    if lines_of is not None:
        said = f"A {lines_of.__name__} on each line."
        content[NDJSON] = {"schema": {"type": "string", "format": "binary", "description": said}}
    return {"requestBody": {"required": True, "content": content}}


def lines(body: bytes, read_one: Callable[[object], Item], *, most: int, done: str) -> list[Item]:
    """Read all lines of an NDJSON body.

    Args:
        body: The body; empty lines are left out.
        read_one: Reads the JSON value of a line.
        most: Lines that it may have.
        done: What was not done if one is invalid, such as "published".

    Raises:
        Refused: Lines are invalid; the problem names them.
    """
    given = [line for line in body.split(b"\n") if line.strip()]
    if not 0 < len(given) <= most:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            f"Send 1 to {most:,} lines, each a JSON object (got {len(given):,}).",
        )
    found: list[Item] = []
    invalid: list[dict[str, str]] = []
    for number, line in enumerate(given, 1):
        try:
            found.append(read_one(read_json(line.decode())))
        except (AilydianError, ValidationError, UnicodeDecodeError) as error:
            invalid.append({"pointer": f"/lines/{number}", "detail": _why(error)})
    if invalid:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            f"{len(invalid):,} of {len(given):,} lines are invalid; nothing was {done}. "
            f"Line {invalid[0]['pointer'].rpartition('/')[2]}: {invalid[0]['detail']}",
            invalid=invalid[:ERRORS_MAX],
        )
    return found


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'/'.join(map(str, first['loc'])) or 'the line'}: {field_errors.told(first)}."
    return "It is not UTF-8." if isinstance(error, UnicodeDecodeError) else str(error)
