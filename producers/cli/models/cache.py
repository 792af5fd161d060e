"""The `cache` commands: the answer cache."""

from decimal import Decimal

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import tenant_option
from producers.json_rows import as_document
from producers.messages import answer_cache
from shared import db
from shared.queries.messages import semantic_entries

COLUMNS = ("model", "entries", "expired", "hits", "spent usd", "saved usd", "unpriced")


@click.group()
def cache() -> None:
    """Show and clear the answer cache."""


@cache.command("stats")
@tenant_option
@json_option
def stats(slug: str, as_json: bool) -> None:
    """Show entries, hits and dollars saved, by model.

    Saved is the cost of each stored entry times its hits; pruned entries, and entries renewed at
    another price, are not included. Entries whose model has no price in the catalogue are counted
    as unpriced.
    """
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            found = semantic_entries.select_figures(conn)
    if as_json:
        models = [as_document(one) for one in found]
        print_json(as_document(answer_cache.totals(slug, found)) | {"models": models})
        return
    rows = [
        (
            *(one.model, one.entries, one.expired, one.hits),
            *(_told(one.cost_usd) or "unknown", _told(one.saved_usd) or "unknown", one.unpriced),
        )
        for one in found
    ]
    print_table(COLUMNS, rows)


@cache.command("clear")
@tenant_option
@json_option
def clear(slug: str, as_json: bool) -> None:
    """Delete all cached answers of the tenant. The audit log records who and how many."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            removed = answer_cache.clear(conn)
    document: dict[str, object] = {"tenant": slug, "removed": removed}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


def _told(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"
