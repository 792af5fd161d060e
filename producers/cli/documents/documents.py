"""The `documents` commands."""

from typing import Any

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import tenant_option
from producers.cli.terminal.waiting import follow
from producers.documents import listing
from producers.documents.submission import delete_document
from producers.json_rows import as_document
from producers.ledger import serving
from producers.queries.documents import document_lists
from shared import db
from shared.ids import DocumentId, JobId, TenantId
from shared.servers.embedded import Servers

CHUNKS_MAX = 10_000


@click.group()
def documents() -> None:
    """Manage a tenant's documents."""


@documents.command("list")
@tenant_option
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="Maximum rows.",
)
@json_option
def list_documents(slug: str, limit: int, as_json: bool) -> None:
    """List documents, newest first."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        rows = document_lists.select_documents(conn, limit=limit)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("id", "title", "source", "kind", "language", "chunks", "embedded")
    print_table(
        columns,
        [(r.id, r.title, r.source, r.kind, r.language, r.chunks, r.embedded) for r in rows],
    )


@documents.command("show")
@click.argument("document_id", metavar="ID")
@tenant_option
@json_option
def show_document(document_id: str, slug: str, as_json: bool) -> None:
    """Show a document and its chunks."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        row = listing.found(conn, DocumentId(document_id), slug)
        chunks = document_lists.select_chunks(conn, row.id, limit=CHUNKS_MAX)
    document = as_document(row)
    if as_json:
        print_json(document | {"chunkList": [as_document(chunk) for chunk in chunks]})
        return
    print_fields(document)
    click.echo()
    columns = ("#", "start", "end", "tokens", "model", "content")
    print_table(
        columns,
        [(c.chunk_index, c.start, c.end, c.token_count, c.model, c.content) for c in chunks],
    )


@documents.command("delete")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@tenant_option
@click.option("--wait", is_flag=True, help="Wait until they are deleted.")
@json_option
@click.pass_context
def delete_documents(
    ctx: click.Context, ids: tuple[str, ...], slug: str, wait: bool, as_json: bool
) -> None:
    """Delete documents with their chunks, vectors and index entries.

    With embedded servers and no running worker, the command does the work itself.
    """
    with session.opened() as servers:
        outcome = _delete(servers, session.tenant_named(slug), slug, ids, wait)
    if as_json:
        print_json(outcome)
    else:
        rows = [(one["status"], one["id"], one["error"]) for one in outcome["documents"]]
        print_table(("status", "id", "error"), rows)
    ctx.exit(1 if any(one["status"] == "DEAD" for one in outcome["documents"]) else 0)


def _delete(
    servers: Servers, tenant_id: TenantId, slug: str, ids: tuple[str, ...], wait: bool
) -> dict[str, Any]:
    wait = wait or (servers.embedded and "ingest" not in serving.queues_served())
    jobs: dict[JobId, dict[str, Any]] = {}
    with db.transaction(tenant_id) as conn:
        for document_id in ids:
            published = delete_document(conn, DocumentId(document_id), slug)
            jobs[published.id] = {"id": document_id, "status": "PENDING", "error": None}
    if wait:
        with someone_works(servers, ["ingest"]) as check:
            for job_id, family in follow(list(jobs), check):
                gone = family[0].state == "COMPLETED"
                jobs[job_id] |= {"status": "DELETED" if gone else "DEAD", "error": family[0].error}
    return {"jobs": list(jobs), "documents": list(jobs.values())}
