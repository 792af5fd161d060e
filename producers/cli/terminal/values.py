"""Parsers of option values: `30s`, `2h`, `2026-11-01`, `10/s`, `@payload.json`."""

import math
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from producers.cli.terminal.output import Command
from shared.contracts import CONTRACTS, QUEUES, Contract, contract_named
from shared.errors import PayloadRefused, PublisherRefused
from shared.json_values import read_json

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|m))?")
MASK = "********"
DELAY_S_MAX = 366 * 86_400.0


def seconds(text: str) -> float:
    """Parse a duration such as `30s`, `1.5h` or `500ms` to seconds; a bare number is seconds.

    Raises:
        ValueError: Invalid, or longer than a year.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"invalid duration {text!r}: use 30s, 5m, 2h or 1d")
    found = float(match[1]) * _SECONDS[match[2] or "s"]
    if found > DELAY_S_MAX:
        raise ValueError(f"{text!r} must be at most a year")
    return found


def moment(text: str, now: datetime) -> datetime:
    """Parse a time such as `2026-11-01T12:00Z`, or an age before now; naive times are UTC.

    Raises:
        ValueError: Invalid.
    """
    try:
        return now - timedelta(seconds=seconds(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"invalid time {text!r}: use 2h or 2026-11-01T12:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def per_second(text: str) -> float:
    """Parse a rate such as `10/s` or `90/m` to events per second, above 0.

    Raises:
        ValueError: Invalid.
    """
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) / _SECONDS[match[2] or "s"] if match else 0.0
    if rate <= 0:
        raise ValueError(f"invalid rate {text!r}: use 10/s or 90/m")
    return rate


def json_value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a JSON value, literal or from `@FILE` (`@-` is standard input).

    Raises:
        ValueError: Not JSON that can be stored, or the file cannot be read.
    """
    if text == "@-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{text[1:]} cannot be read: {error.strerror}") from None
    try:
        return read_json(text)
    except PayloadRefused as error:
        raise ValueError(f"i{str(error).removesuffix('.')[1:]}") from None


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object as `json_value`.

    Raises:
        ValueError: Not a JSON object, or the file cannot be read.
    """
    found = json_value(text)
    if not isinstance(found, dict):
        raise ValueError(f"must be a JSON object, not {type(found).__name__}")
    return found


def contract_for_operators(name: str) -> type[Contract]:
    """The contract of this name, unless our own code alone publishes it.

    Raises:
        UnknownJob: There is none.
        PublisherRefused: It is the system's.
    """
    contract = contract_named(name)
    if contract.audience == "system":
        raise PublisherRefused(f"{name} is published by the system alone.")
    return contract


def text(given: str) -> str:
    """Return a text, literal or from `@FILE` (`@-` is standard input).

    Raises:
        ValueError: The file cannot be read, or is not UTF-8.
    """
    if not given.startswith("@"):
        return given
    if given == "@-":
        return sys.stdin.read()
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{given[1:]} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{given[1:]} is not UTF-8") from None


def without_password(url: str) -> str:
    """Return a server's URL with its password masked."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    credentials, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials.partition(':')[0]}:{MASK}@{place}"))


class Typed(click.ParamType[Any]):
    """A click type made of one of the functions above."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401
        """Parse a value, or fail with the reason."""
        try:
            return self._read(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Between(click.FloatRange):
    """A number within bounds; rejects `nan`, which passes every comparison."""

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401
        """Parse a number, or fail with the bounds."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return found


DURATION = Typed("duration", seconds)
MOMENT = Typed("time", lambda text: moment(text, datetime.now(UTC)))
RATE = Typed("rate", per_second)
TEXT = Typed("text|@file", text)
JSON_OBJECT = Typed("json|@file", json_object)
JSON_VALUE = Typed("json|@file", json_value)
QUEUE = click.Choice(QUEUES)
JOB = click.Choice(sorted(CONTRACTS))


def tenant_option(function: Command) -> Command:
    """Add a required `--tenant SLUG` to a command; it is passed as `slug`."""
    option = click.option("--tenant", "slug", required=True, metavar="SLUG", help="Tenant slug.")
    return option(function)


def any_tenant_option(function: Command) -> Command:
    """Add an optional `--tenant SLUG` to a command; it is passed as `slug`, None for any."""
    option = click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's.")
    return option(function)
