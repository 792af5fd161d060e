"""Output of commands: one JSON document, or aligned columns."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click
import structlog

from producers import json_rows
from producers.cli import AS_JSON
from producers.cli.terminal.visible import visible

Command = TypeVar("Command", bound=Callable[..., Any])
CELL_CHARS_MAX = 60
SHOWN_MIN = 0.001

log = structlog.get_logger()


def json_option(function: Command) -> Command:
    """Add `--json` to a command; it is passed as `as_json`."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        ctx.meta[AS_JSON] = value
        return value

    help_text = "Print one JSON document."
    option = click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=note, help=help_text
    )
    return option(function)


def print_json(document: object) -> None:
    """Print one JSON document on stdout; times are ISO 8601 in UTC."""
    click.echo(json_rows.text(document))


def announce(document: dict[str, object]) -> None:
    """Print a role's only document, or drop it; later errors go to stderr alone."""
    try:
        click.echo(json.dumps(document))
    except OSError as error:
        log.warning("announcement.dropped", error=error.strerror)
        _drop_stdout()
    click.get_current_context().meta[AS_JSON] = False


def _drop_stdout() -> None:
    """Let what stdout could not take go nowhere, now and when the process ends."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; long cells are truncated (`--json` has them in full)."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def print_fields(document: dict[str, Any]) -> None:
    """Print a row as `name  value` lines."""
    width = max(map(len, document))
    for name, value in document.items():
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        click.echo(f"{name.ljust(width)}  {_text(text)}")


def say(sentence: str) -> None:
    """Print a message on stderr."""
    click.echo(sentence, err=True)


def _cell(value: object) -> str:
    text = visible(" ".join(_text(value).split()))
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def _text(value: object) -> str:
    value = f"{value:f}" if isinstance(value, Decimal) else value  # never 0E-8
    match value:
        case None:
            return "-"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        case float():
            fades = abs(value) < SHOWN_MIN  # such as a rate that ended hours ago
            return "0.0" if fades else f"{value:.3g}" if value < 1 else f"{value:.1f}"
        case list() | tuple():
            return ",".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def error_line(document: Mapping[str, Any]) -> str | None:
    """An error as lists show it, with its class: `KeyError: 'CHF'`."""
    error, kind = document["error"], document["errorType"]
    return error if error is None or kind in (None, error) else f"{kind}: {error}"
