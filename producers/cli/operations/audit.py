"""The `audit` commands: the audit log."""

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table
from producers.json_rows import as_document
from shared import db
from shared.db import Role
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import ActFilters


@click.group()
def audit() -> None:
    """Read the audit log (append-only)."""


@audit.command("tail")
@click.option("--tenant", "slug", metavar="SLUG", help="Entries of this tenant.")
@click.option("--system", is_flag=True, help="Entries without a tenant, such as of queues.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Maximum rows."
)
@json_option
def tail_audit(slug: str | None, system: bool, limit: int, as_json: bool) -> None:
    """List the latest entries, newest last."""
    if (slug is None) != system:
        raise click.UsageError("Give either --tenant SLUG or --system.")
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            rows = audit_logs.select_latest(conn, ActFilters(tenant_id), limit=limit)
    documents = [as_document(row) for row in reversed(rows)]
    if as_json:
        print_json(documents)
    else:
        columns = ("createdAt", "actor", "action", "resource", "resourceId", "what")
        print_table(columns, [[document[name] for name in columns] for document in documents])
