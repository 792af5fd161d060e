"""The `quarantine` commands: invalid messages found in Redis."""

import base64
from typing import Any

import click

from producers.cli.ledger import selection
from producers.cli.ledger.selection import CHOICE, FILTERS, LIMIT, PACE, options, regex_told
from producers.cli.terminal import session
from producers.cli.terminal.output import (
    json_option,
    print_fields,
    print_json,
    print_table,
    say,
)
from producers.cli.terminal.values import JSON_OBJECT
from producers.ledger import quarantine_actions, quarantine_edit
from producers.ledger.dead_selection import regex_checked
from producers.ledger.quarantine_actions import QuarantineChoice
from shared import db
from shared.db import Role
from shared.ledger.wakeups import Wire, connect
from shared.queries.ledger import quarantines
from shared.queries.ledger.quarantines import QuarantineFilters
from shared.servers import embedded
from shared.settings import settings


@click.group()
def quarantine() -> None:
    """Manage invalid messages found in Redis queues."""


@quarantine.command("list")
@options(json_option, LIMIT, *FILTERS)
def list_quarantined(limit: int, as_json: bool, **filters: Any) -> None:  # noqa: ANN401
    """List quarantined messages, newest first; --error matches the reason."""
    wanted = QuarantineFilters(**filters)
    with (
        session.opened(),
        regex_told(),
        db.transaction(None, role=Role.RELAY) as conn,
        regex_checked(conn, wanted.error),
    ):
        rows = quarantines.select_quarantined(conn, wanted, limit=limit)
    documents = [quarantine_actions.document(row) for row in rows]
    if as_json:
        print_json(documents)
    else:
        columns = ("id", "queue", "reason", "bytes", "seen", "sha256", "receivedAt")
        print_table(columns, [[document[name] for name in columns] for document in documents])


@quarantine.command("show")
@click.argument("message_id", metavar="ID")
@json_option
def show_quarantined(message_id: str, as_json: bool) -> None:
    """Show a message: the reason and its first 64 kB (base64 in JSON)."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        row = quarantine_edit.found(conn, message_id)
    document = quarantine_actions.document(row)
    if as_json:
        print_json(document | {"message": base64.b64encode(row.message).decode()})
    else:
        print_fields(document | {"message": ascii(row.message)})


@quarantine.command("edit")
@click.argument("message_id", metavar="ID")
@click.option("--message", type=JSON_OBJECT, required=True, help='{"job": ID, "attempt": N}')
@json_option
def edit_quarantined(message_id: str, message: dict[str, Any], as_json: bool) -> None:
    """Turn a message into a valid wake-up and sign it, or change fields of an entry of the door.

    A wake-up has the job's id and its number of attempts; the job must belong to this queue. An
    entry has job, tenant, key and payload; fields that are not named stay.
    """
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        quarantine_edit.edit(conn, wire(), message_id, message)
    if as_json:
        print_json({"id": message_id, "edited": True})
    else:
        click.echo(f"Edited. Send it with `ailydian quarantine replay {message_id}`.")


@quarantine.command("replay")
@options(PACE, *CHOICE)
def replay_quarantined(as_json: bool, **choice: Any) -> None:  # noqa: ANN401
    """Send quarantined messages unchanged to their original queues and streams.

    Invalid messages are quarantined again; a repeated wake-up has no effect. Messages that were
    stored truncated are not sent, nor entries of a publisher that was removed.
    """
    with session.opened() as servers, connect(servers.redis_url) as client:
        send = quarantine_actions.sender(client, wire())
        _act(send, "replay", "replayed", choice, as_json)


@quarantine.command("discard")
@options(PACE, *CHOICE)
def discard_quarantined(as_json: bool, **choice: Any) -> None:  # noqa: ANN401
    """Delete quarantined messages."""
    with session.opened():
        _act(quarantines.discard, "discard", "discarded", choice, as_json)


def _act(
    move: quarantine_actions.Move, verb: str, done_word: str, given: dict[str, Any], as_json: bool
) -> None:
    choice = read_choice(given)
    with (
        selection.progress(verb.title(), lambda: quarantine_actions.count(choice)) as advance,
        regex_told(),
    ):
        matched, done = quarantine_actions.act(move, verb, choice, advance)
    if done < matched and not choice.dry_run and verb == "replay":
        say(
            f"{matched - done} could not be sent: they were stored truncated, lack a field or are "
            "of a publisher that was removed. See `ailydian quarantine show ID`."
        )
    if as_json:
        print_json(
            {"matched": matched, done_word: done} | ({"dryRun": True} if choice.dry_run else {})
        )
    else:
        click.echo(f"{matched} matched, {done} {done_word}.")


def read_choice(options_given: dict[str, Any]) -> QuarantineChoice:
    """Build a selection from the options of `CHOICE` and `PACE`.

    Raises:
        click.UsageError: Neither ids nor filters nor --all.
    """
    given = dict(options_given)
    every, dry_run, rate = given.pop("every"), given.pop("dry_run"), given.pop("rate")
    ids = given.pop("ids")
    selection.refuse_no_choice(ids, every, given)
    words = {name: str(value) for name, value in given.items() if value is not None}
    return QuarantineChoice(ids, QuarantineFilters(**given), words, dry_run, rate)


def wire() -> Wire:
    """Return the Redis key names and the signing key of this installation."""
    config = settings()
    return Wire(config.redis_namespace, embedded.signing_key(config))
