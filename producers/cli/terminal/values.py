"""Values as people type them: `30s`, `2h`, `2026-11-01`, `10/s`, `@payload.json`."""

import json
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
from shared.contracts import CONTRACTS, QUEUES

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|m))?")
MASK = "********"
DELAY_S_MAX = 366 * 86_400.0


def seconds(text: str) -> float:
    """A duration such as `30s`, `1.5h` or `500ms`, in seconds; a bare number is seconds.

    Raises:
        ValueError: It is no duration, or longer than a year.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 30s, 5m, 2h or 1d")
    found = float(match[1]) * _SECONDS[match[2] or "s"]
    if found > DELAY_S_MAX:
        raise ValueError(f"{text!r} is longer than a year")
    return found


def moment(text: str, now: datetime) -> datetime:
    """A time such as `2026-11-01`, `2026-11-01T12:00Z`, or a duration before now; naive is UTC.

    Raises:
        ValueError: It is neither.
    """
    try:
        return now - timedelta(seconds=seconds(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 2h or 2026-11-01T12:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def per_second(text: str) -> float:
    """A rate such as `10/s` or `90/m`, in events a second, above 0.

    Raises:
        ValueError: It is no rate.
    """
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) / _SECONDS[match[2] or "s"] if match else 0.0
    if rate <= 0:
        raise ValueError(f"{text!r} is no rate: write 10/s or 90/m")
    return rate


def json_object(text: str) -> dict[str, Any]:
    """A JSON object, written out or read from `@FILE` (`@-` is standard input).

    Raises:
        ValueError: It is no JSON object, or the file cannot be read.
    """
    if text == "@-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{text[1:]} cannot be read: {error.strerror}") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object is wanted, not {type(found).__name__}")
    return found


def text(given: str) -> str:
    """A text as it is written, or read from `@FILE` (`@-` is standard input).

    Raises:
        ValueError: The file cannot be read, or is no UTF-8.
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
        raise ValueError(f"{given[1:]} is not written in UTF-8") from None


def without_password(url: str) -> str:
    """A server's URL that may be shown: its password, if there is one, is masked."""
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
        """Read a value, or refuse it with the reason."""
        try:
            return self._read(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Between(click.FloatRange):
    """A number within bounds; `nan` is within none, though no comparison says so."""

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401
        """Read a number, or refuse it with the bounds."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return found


DURATION = Typed("duration", seconds)
MOMENT = Typed("time", lambda text: moment(text, datetime.now(UTC)))
RATE = Typed("rate", per_second)
TEXT = Typed("text|@file", text)
JSON_OBJECT = Typed("json|@file", json_object)
QUEUE = click.Choice(QUEUES)
JOB = click.Choice(sorted(CONTRACTS))


def tenant_option(function: Command) -> Command:
    """Give a command a required `--tenant SLUG`; it arrives as `slug`."""
    option = click.option("--tenant", "slug", required=True, metavar="SLUG", help="Whose it is.")
    return option(function)
