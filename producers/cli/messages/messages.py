"""The `message` and `recall` commands."""

import contextlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import click

from producers.accounts import users
from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.progress import progress
from producers.cli.terminal.values import TEXT, tenant_option
from producers.cli.terminal.waiting import follow
from producers.json_rows import as_document
from producers.messages import conversations
from producers.messages.submission import checked, record_many
from producers.queries.messages import message_lists
from shared import db
from shared.contracts import RecordMessage
from shared.errors import PayloadRefused
from shared.ids import MessageId, TenantId
from shared.json_values import read_json
from shared.ledger.outbox import Published

QUEUES = ("scoring", "embedding", "moderation")
LATER = ("analyse_conversation",)  # due seconds later: not waited for here
EXCERPT_CHARS = 300
BULK_ROWS = 500
ROLE = click.Choice(("user", "assistant", "system", "tool"), case_sensitive=False)


@click.group()
def message() -> None:
    """Record and show messages."""


@message.command("record")
@click.argument("content", type=TEXT, required=False)
@tenant_option
@click.option(
    "--user", metavar="EMAIL|ID", help="User of the conversation. Default: the tenant's first user."
)
@click.option(
    "--conversation",
    "conversation_id",
    metavar="ID",
    help="Conversation id. Default: a new conversation.",
)
@click.option(
    "--role", type=ROLE, default="assistant", show_default=True, help="Role of the author."
)
@click.option("--question", type=TEXT, default="", help="Question that this answer belongs to.")
@click.option("--model", help="Model that answered; required for an answer.")
@click.option("--latency-ms", type=click.IntRange(0), help="Response time.")
@click.option("--key", "external_id", help="Idempotency key: the same key is the same message.")
@click.option(
    "--bulk", type=click.File(encoding="utf-8"), help="File of messages, one JSON object per line."
)
@click.option("--wait", is_flag=True, help="Wait until processed; exit 1 on failure.")
@json_option
@click.pass_context
def record_message(
    ctx: click.Context,
    /,
    content: str | None,
    slug: str,
    bulk: IO[str] | None,
    wait: bool,
    as_json: bool,
    **fields: Any,  # noqa: ANN401
) -> None:
    """Record a message (@FILE reads it from a file), or many with --bulk.

    A line of --bulk has the fields of the job `record_message`; see `ailydian publish --list`.
    Embedding, moderation, quality scoring and conversation analysis follow automatically.
    """
    if (content is None) == (bulk is None):
        raise click.UsageError("Give either a message or --bulk FILE.")
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        messages = [_one(tenant_id, content, fields)] if content is not None else []
        if bulk is not None:
            messages = list(_read(bulk))
        with contextlib.ExitStack() as stack:
            check = stack.enter_context(someone_works(servers, QUEUES)) if wait else None
            published = _accept(tenant_id, messages)
            rows = _described(published) if check is None else _awaited(published, check)
    _print(rows, as_json, single=bulk is None)
    ctx.exit(1 if wait and any(one["state"] != "COMPLETED" for one in rows) else 0)


def _one(tenant_id: TenantId, content: str, fields: dict[str, Any]) -> RecordMessage:
    user = fields.pop("user")
    given = {
        "content": content,
        "role": fields.pop("role").upper(),
        "user_id": None if user is None else users.named(tenant_id, user),
    }
    if external_id := fields.pop("external_id"):
        given["external_id"] = external_id
    return checked(given | fields, "The message")


def _read(lines: IO[str]) -> Iterator[RecordMessage]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = read_json(line)
        except PayloadRefused as error:
            raise PayloadRefused(f"Line {number}: i{str(error)[1:]}") from None
        if not isinstance(given, dict):
            raise PayloadRefused(f"Line {number}: must be a JSON object.")
        yield checked(given, f"Line {number}")


def _accept(tenant_id: TenantId, messages: list[RecordMessage]) -> list[Published]:
    published = []
    for start in range(0, len(messages), BULK_ROWS):
        with db.transaction(tenant_id) as conn:
            published += record_many(conn, messages[start : start + BULK_ROWS])
    return published


def _described(published: list[Published]) -> list[dict[str, Any]]:
    return [{"id": one.id, "state": one.state, "duplicate": one.duplicate} for one in published]


def _awaited(published: list[Published], check: Callable[[], None]) -> list[dict[str, Any]]:
    """Wait until messages are recorded and scored; a failed follow-up fails its message."""
    rows = {row["id"]: row for row in _described(published)}
    with progress(len(rows), "Recording") as advance:
        for job_id, family in follow(rows, check, ignore=LATER):
            failed = next((one for one in family if one.state != "COMPLETED"), None)
            rows[job_id] |= {"state": family[0].state} | (family[0].outcome or {})
            if failed is not None:
                rows[job_id] |= {"state": failed.state, "error": failed.error}
            advance()
    return list(rows.values())


def _print(rows: list[dict[str, Any]], as_json: bool, *, single: bool) -> None:
    if as_json:
        print_json(rows[0] if single else rows)
    elif single:
        print_fields(rows[0])
    else:
        columns = ("id", "state", "duplicate", "messageId", "error")
        print_table(columns, [[row.get(name) for name in columns] for row in rows])


@message.command("show")
@click.argument("message_id", metavar="ID")
@tenant_option
@json_option
def show_message(message_id: str, slug: str, as_json: bool) -> None:
    """Show a message with its verdict, quality, provenance and ratings."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            row = conversations.message(conn, MessageId(message_id), slug)
    (print_json if as_json else print_fields)(as_document(row))


@message.command("list")
@tenant_option
@click.option(
    "--conversation",
    "conversation_id",
    metavar="ID",
    help="List the messages of this conversation.",
)
@click.option("--user", metavar="EMAIL|ID", help="Only this user's conversations.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_messages(
    slug: str, conversation_id: str | None, user: str | None, limit: int, as_json: bool
) -> None:
    """List conversations, most recent first; or the messages of one, oldest first."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        user_id = None if user is None else users.named(tenant_id, user)
        with db.transaction(tenant_id) as conn:
            rows: list[Any] = (
                list(message_lists.select_conversations(conn, user_id, limit=limit))
                if conversation_id is None
                else list(message_lists.select_of_conversation(conn, conversation_id, limit=limit))
            )
    documents = [as_document(row) for row in rows]
    if as_json:
        print_json(documents)
        return
    columns = ("id", "user", "title", "messages", "sentiment", "topic", "tags")
    if conversation_id is not None:
        columns = ("id", "role", "content", "model", "intent", "tokensOut", "costUsd")
    print_table(columns, [[document[name] for name in columns] for document in documents])


@click.command()
@click.argument("query")
@tenant_option
@click.option("--user", metavar="EMAIL|ID", help="Only this user's conversations.")
@click.option(
    "-k",
    "count",
    type=click.IntRange(1, 1_000),
    default=10,
    show_default=True,
    help="Maximum results.",
)
@json_option
def recall(query: str, slug: str, user: str | None, count: int, as_json: bool) -> None:
    """Search past messages by meaning, in Turkish and English."""
    from producers.messages.recall import recall as nearest  # noqa: PLC0415 - it brings the models along

    with session.opened():
        tenant_id = session.tenant_named(slug)
        user_id = None if user is None else users.named(tenant_id, user)
        found = nearest(tenant_id, query, k=count, user_id=user_id)
    if as_json:
        print_json([as_document(one) for one in found])
        return
    for place, one in enumerate(found, 1):
        click.echo(f"{place}. {one.role.lower()}  {one.cosine:.3f}  {one.message_id}")
        click.echo(f"   {' '.join(one.content.split())[:EXCERPT_CHARS]}\n")
    if not found:
        click.echo("No similar message found.")
