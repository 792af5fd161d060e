"""The `cache` commands: the answer cache."""

from decimal import Decimal

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import tenant_option
from producers.json_rows import as_document
from shared import db
from shared.operations.audit import note
from shared.queries.messages import semantic_entries
from shared.queries.messages.semantic_entries import CacheFigures

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
        print_json(_document(slug, found))
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
            removed = semantic_entries.clear(conn)
            note(conn, "cache.clear", "SemanticCache", None, {"removed": removed})
    document: dict[str, object] = {"tenant": slug, "removed": removed}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


def _told(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"


def _document(slug: str, found: list[CacheFigures]) -> dict[str, object]:
    known = [one.saved_usd for one in found if one.saved_usd is not None]
    return {
        "tenant": slug,
        "entries": sum(one.entries for one in found),
        "hits": sum(one.hits for one in found),
        "savedUsd": _told(sum(known, Decimal(0))) if known or not found else None,
        "unpriced": sum(one.unpriced for one in found),
        "models": [
            as_document(one) | {"costUsd": _told(one.cost_usd), "savedUsd": _told(one.saved_usd)}
            for one in found
        ],
    }
