"""Changes to the catalogue of providers and models; each is audited."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from producers.errors import ModelNotFound, ProviderTaken
from producers.json_rows import camel
from producers.models.shipped_catalogue import COMPLETION
from shared.db import Connection
from shared.errors import ProviderNotFound, UsageError
from shared.operations import audit
from shared.queries.models import models
from shared.queries.models.models import ModelRow, NewModel, NewProvider
from shared.queries.operations.audit_logs import AuditEntry

_NEEDED: Final = ("provider", "context_window", "cost_in", "cost_out")


class ModelIncomplete(UsageError):
    """A new model lacks what a model needs.

    Attributes:
        slug: Of the model.
        missing: The fields that it lacks.
    """

    code = "model_incomplete"

    def __init__(self, slug: str, missing: Sequence[str]) -> None:
        needed = ", ".join(map(camel, missing))
        super().__init__(f"The model {slug} is new: it needs {needed}.")
        self.slug = slug
        self.missing = missing


def found(conn: Connection, slug: str) -> ModelRow:
    """Return the model of this slug, in the owner's role.

    Raises:
        ModelNotFound: The catalogue has none.
    """
    rows = models.select_models(conn, slug)
    if not rows:
        raise ModelNotFound(f"The catalogue has no model {slug!r}: see `ailydian models list`.")
    return rows[0]


def change_model(conn: Connection, slug: str, given: Mapping[str, Any]) -> ModelRow:
    """Create a model, or change what is given of the one with this slug.

    Args:
        conn: A connection in the owner's role.
        slug: Of the model.
        given: Fields of `NewModel`; what is not there stays, or is the default of a new one.

    Raises:
        ModelIncomplete: It is new, and lacks provider, window or prices.
        ProviderNotFound: Its provider does not exist.
    """
    models.lock_model(conn, slug)
    known = models.select_models(conn, slug)
    before: dict[str, Any] = {"name": slug, "capabilities": [COMPLETION], "enabled": True}
    if known:
        names = ("provider", "name", "context_window", "cost_in", "cost_out", "capabilities")
        before = {name: getattr(known[0], name) for name in (*names, "enabled")}
    wanted = before | dict(given)
    missing = [name for name in _NEEDED if name not in wanted]
    if missing:
        raise ModelIncomplete(slug, missing)
    return put_model(conn, NewModel(slug=slug, **wanted))


def change_provider(
    conn: Connection, slug: str, *, name: str | None, base_url: str | None, enabled: bool | None
) -> NewProvider:
    """Create a provider, or change the one with this slug; None leaves what is there."""
    models.lock_provider(conn, slug)
    known = models.select_provider(conn, slug)
    if enabled is None:
        enabled = known.enabled if known else True
    new = NewProvider(
        slug,
        name or (known.name if known else slug),
        base_url or (known.base_url if known else None),
        enabled,
    )
    put_provider(conn, new)
    return new


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

    Raises:
        ProviderTaken: Another provider has its name.
    """
    before = models.select_provider(conn, new.slug)
    if models.has_provider_name(conn, new.name, beside=new.slug):
        raise ProviderTaken(f"Another provider has the name {new.name!r}: choose another name.")
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
