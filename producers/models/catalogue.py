"""Changes to the catalogue of providers and models; each is audited."""

import dataclasses
from typing import Any

from shared.db import Connection
from shared.errors import ProviderNotFound
from shared.operations import audit
from shared.queries.models import models
from shared.queries.models.models import ModelRow, NewModel, NewProvider
from shared.queries.operations.audit_logs import AuditEntry


def put_model(conn: Connection, new: NewModel) -> ModelRow:
    """Create or update the model with this slug.

    Args:
        conn: A connection in the owner's role.
        new: The new values.

    Raises:
        ProviderNotFound: Its provider does not exist.
    """
    before = models.select_models(conn, new.slug)
    if not models.put_model(conn, new):
        raise ProviderNotFound(
            f"There is no provider {new.provider!r}: create it with `ailydian models provider`."
        )
    (row,) = models.select_models(conn, new.slug)
    _note(
        conn, "model.put", "AIModel", new.slug, _facts(before[0]) if before else None, _facts(row)
    )
    return row


def put_provider(conn: Connection, new: NewProvider) -> None:
    """Create or update the provider with this slug; if disabled, its models are not used.

    Args:
        conn: A connection in the owner's role.
        new: The new values.
    """
    before = models.select_provider(conn, new.slug)
    models.put_provider(conn, new)
    was = None if before is None else dataclasses.asdict(before)
    _note(conn, "provider.put", "AIProvider", new.slug, was, dataclasses.asdict(new))


def _facts(row: ModelRow) -> dict[str, Any]:
    return {
        "provider": row.provider,
        "name": row.name,
        "contextWindow": row.context_window,
        "costIn": str(row.cost_in),
        "costOut": str(row.cost_out),
        "capabilities": row.capabilities,
        "enabled": row.enabled,
    }


def _note(
    conn: Connection,
    action: str,
    resource: str,
    resource_id: str,
    before: dict[str, Any] | None,
    after: dict[str, Any],
) -> None:
    if before != after:
        what = {"before": before, "after": after}
        audit.write(conn, [AuditEntry(None, audit.who(), action, resource, resource_id, what)])
