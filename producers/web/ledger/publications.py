"""Jobs as requests ask for them, one or a line for each."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import Field, ValidationError

from producers.web.access import Acting
from producers.web.bodies import Body
from producers.web.problems import Refused
from shared.contracts import Contract, contract_named
from shared.errors import AilydianError, PublisherRefused
from shared.json_values import read_json

LINES_MAX: Final = 10_000
ERRORS_MAX: Final = 100
Line = TypeVar("Line")


class JobRequest(Body):
    """A job to publish."""

    job: str = Field(max_length=100, examples=["probe"])
    payload: dict[str, Any] = Field(default_factory=dict, examples=[{"n": 1}])
    key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Two publications with one key are one job. Unset: a hash of the payload.",
    )
    delay_s: float = Field(0, ge=0, le=366 * 86_400, alias="delaySeconds")
    priority: int = Field(0, ge=-9, le=9, description="Higher goes first.")


def contract_of(name: str, payload: dict[str, Any], acting: Acting) -> Contract:
    """Return the job that is asked for.

    Raises:
        UnknownJob: There is none of this name.
        PublisherRefused: It is the system's, or an operator's.
        PayloadRefused: Its payload does not fit.
    """
    contract = contract_named(name)
    above = acting.by.role == "SUPER_ADMIN"
    if contract.audience == "system" or (contract.audience == "operators" and not above):
        raise PublisherRefused(f"{name} is not published by {acting.by.role} keys.")
    return contract.from_payload(payload, contract.schema_version)


def read_lines(body: bytes, read: Callable[[object], Line]) -> list[Line]:
    """Read all lines of NDJSON.

    Raises:
        Refused: Lines are invalid; the problem names them.
    """
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not 0 < len(lines) <= LINES_MAX:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            f"Send 1 to {LINES_MAX:,} lines, each a JSON object (got {len(lines):,}).",
        )
    found: list[Line] = []
    invalid: list[dict[str, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(read(read_json(line.decode())))
        except (AilydianError, ValidationError, UnicodeDecodeError) as error:
            invalid.append({"pointer": f"line {number}", "detail": _why(error)})
    if invalid:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            f"{len(invalid):,} of {len(lines):,} lines are invalid; nothing was published. "
            f"{invalid[0]['pointer'].capitalize()}: {invalid[0]['detail']}",
            invalid=invalid[:ERRORS_MAX],
        )
    return found


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'/'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}."
    return "It is not UTF-8." if isinstance(error, UnicodeDecodeError) else str(error)
