"""`quarantine`: what arrived in Redis and is no message of ours."""

import base64
from typing import Any

import click

from producers.cli import session
from producers.cli.dead import CHOICE, FILTERS, LIMIT, options, refuse_no_choice, regex_checked
from producers.cli.failures import JobNotFound
from producers.cli.output import as_document, json_option, print_fields, print_json, print_table
from shared import db
from shared.db import Role
from shared.queries import quarantines
from shared.queries.quarantines import Filters, QuarantinedRow


@click.group()
def quarantine() -> None:
    """List, show and discard what was no message of ours: bytes, reason, time."""


@quarantine.command("list")
@options(json_option, LIMIT, *FILTERS)
def list_quarantined(limit: int, as_json: bool, **filters: Any) -> None:  # noqa: ANN401
    """Quarantined messages, newest first; --error matches the reason."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn, regex_checked():
        rows = quarantines.select_quarantined(conn, Filters(**filters), limit=limit)
    documents = [_without_bytes(row) for row in rows]
    if as_json:
        print_json(documents)
    else:
        columns = ("id", "queue", "reason", "bytes", "sha256", "received")
        print_table(columns, [list(document.values()) for document in documents])


@quarantine.command("show")
@click.argument("message_id", metavar="ID")
@json_option
def show_quarantined(message_id: str, as_json: bool) -> None:
    """One message: the reason, and its first 64 kB (base64 in JSON)."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        rows = quarantines.select_quarantined(conn, Filters(), ids=[message_id], limit=1)
    if not rows:
        raise JobNotFound(f"No message has the id {message_id!r}: see `ailydian quarantine list`.")
    document = _without_bytes(rows[0])
    if as_json:
        print_json(document | {"message": base64.b64encode(rows[0].message).decode()})
    else:
        print_fields(document | {"message": ascii(rows[0].message)})


@quarantine.command("discard")
@options(*CHOICE)
def discard_quarantined(ids: tuple[str, ...], as_json: bool, **choice: Any) -> None:  # noqa: ANN401
    """Throw quarantined messages away."""
    every, dry_run = choice.pop("every"), choice.pop("dry_run")
    refuse_no_choice(ids, every, choice)
    wanted, done = Filters(**choice), 0
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn, regex_checked():
        matched = quarantines.count_quarantined(conn, wanted, ids=ids or None)
        if not dry_run:
            done = quarantines.delete_quarantined(conn, wanted, ids=ids or None)
    if as_json:
        print_json({"matched": matched, "discarded": done} | ({"dryRun": True} if dry_run else {}))
    else:
        click.echo(f"{matched} matched, {done} discarded.")


def _without_bytes(row: QuarantinedRow) -> dict[str, Any]:
    document = as_document(row)
    del document["message"]
    document["bytes"] = document.pop("sizeBytes")
    return document
