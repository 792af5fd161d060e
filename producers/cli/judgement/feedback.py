"""The `feedback` commands."""

from typing import Any

import click

from producers.accounts import users
from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import TEXT, tenant_option
from producers.cli.terminal.waiting import follow
from producers.json_rows import as_document
from producers.judgement import feedback as giving
from producers.queries.judgement import feedback_entries
from shared import db
from shared.ids import MessageId

QUEUES = ("scoring", "moderation")


@click.group()
def feedback() -> None:
    """Rate messages, and list ratings."""


@feedback.command("give")
@click.argument("message_id", metavar="MESSAGE")
@tenant_option
@click.option("--user", required=True, metavar="EMAIL|ID", help="User who rates (e-mail or id).")
@click.option("--rating", type=int, required=True, help="1 (worst) to 5 (best).")
@click.option("--comment", type=TEXT, help="Comment; @FILE reads it from a file.")
@click.option("--wait", is_flag=True, help="Wait until processed; exit 1 on failure.")
@json_option
@click.pass_context
def give_feedback(
    ctx: click.Context,
    /,
    message_id: str,
    slug: str,
    wait: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Rate a message. A user's later rating replaces the earlier one.

    It updates the answer's score, the model's routing, the author's trust and training examples.
    """
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        user_id = users.named(tenant_id, given["user"])
        with db.transaction(tenant_id) as conn:
            published = giving.give(
                conn,
                MessageId(message_id),
                user_id,
                rating=given["rating"],
                comment=given["comment"],
            )
        document: dict[str, Any] = {"id": published.id, "state": published.state}
        if wait:
            with someone_works(servers, QUEUES) as check:
                for _, family in follow([published.id], check):
                    failed = next((one for one in family if one.state != "COMPLETED"), family[0])
                    document |= {"state": failed.state, "error": failed.error}
                    document |= family[0].outcome or {}
    (print_json if as_json else print_fields)(document)
    ctx.exit(1 if wait and document["state"] != "COMPLETED" else 0)


@feedback.command("list")
@tenant_option
@click.option("--message", "message_id", metavar="ID", help="Only this message's.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_feedback(slug: str, message_id: str | None, limit: int, as_json: bool) -> None:
    """List ratings, newest first."""
    wanted = None if message_id is None else MessageId(message_id)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            rows = feedback_entries.select_feedback(conn, wanted, limit=limit)
    documents = [as_document(row) for row in rows]
    if as_json:
        print_json(documents)
    else:
        columns = ("createdAt", "user", "rating", "messageId", "comment")
        print_table(columns, [[one[name] for name in columns] for one in documents])
