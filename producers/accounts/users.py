"""Users and what they prefer of models: created, listed, changed, noted in the audit log."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from producers.errors import UserTaken
from producers.json_rows import as_document
from shared import db
from shared.db import Connection, Role
from shared.errors import UsageError, UserNotFound
from shared.ids import TenantId, UserId
from shared.operations import audit
from shared.queries.accounts import accounts, preferences
from shared.queries.accounts.accounts import UserRow
from shared.queries.accounts.preferences import Preference
from shared.queries.judgement import trust_scores
from shared.queries.models import models
from shared.queries.operations.audit_logs import AuditEntry

ROLES = ("USER", "ADMIN", "SUPER_ADMIN")
EMAIL = r"^[^@\s]+@[^@\s]+$"  # also in the OpenAPI document


class EmailRefused(UsageError):
    """The e-mail address is invalid."""

    code = "email_refused"


class ModelUnknown(UsageError):
    """The catalogue has no such model."""

    code = "model_unknown"


@dataclass(frozen=True, slots=True)
class Home:
    """The tenant of a user."""

    id: TenantId
    slug: str


@dataclass(frozen=True, slots=True)
class Person:
    """A user's trust score, None before the first event, and preferences."""

    id: UserId
    trust: float | None
    preferences: Preference | None


def named(tenant_id: TenantId, name: str) -> UserId:
    """Return the id of a tenant's user, by e-mail or id.

    Raises:
        UserNotFound: The tenant has no such user.
    """
    with db.transaction(tenant_id) as conn:
        found = accounts.select_user_id(conn, name)
    if found is None:
        raise UserNotFound(
            f"The tenant has no user {name!r}: use an e-mail or id, or create the user with "
            f"`ailydian user create`."
        )
    return found


def anywhere(tenant_id: TenantId | None, name: str) -> UserId:
    """Return the id of a user by e-mail or id; without a tenant, of any.

    Raises:
        UserNotFound: There is not such a user, or not in the tenant.
    """
    if tenant_id is not None:
        return named(tenant_id, name)
    with db.transaction(None, role=Role.OWNER) as conn:
        found = accounts.select_user_id(conn, name)
    if found is None:
        raise UserNotFound(f"No user has the e-mail or id {name!r}.")
    return found


def create(
    conn: Connection, tenant: Home, email: str, *, name: str | None, role: str
) -> tuple[UserRow, bool]:
    """Create a user; an existing one of this tenant is left unchanged.

    Args:
        conn: In the owner's role.
        tenant: Whose.
        email: Of the user.
        name: For people.
        role: One of ROLES.

    Returns:
        The user, and whether they are new. They can sign in once the platform has set a password.

    Raises:
        EmailRefused: It is not an e-mail address.
        UserTaken: It belongs to another tenant.
    """
    if not re.fullmatch(EMAIL, email):
        raise EmailRefused(f"invalid e-mail address {email!r}.")
    row, created = accounts.insert_user(conn, email, name=name, role=role, tenant_id=tenant.id)
    if created:
        what = {"role": row.role}
        act = AuditEntry(tenant.id, audit.who(), "user.create", "User", row.id, what)
        audit.write(conn, [act])
    if row.tenant != tenant.slug:
        raise UserTaken(f"{email} belongs to {row.tenant or 'the platform'}, not to {tenant.slug}.")
    return row, created


def list_users(
    tenant_id: TenantId | None, *, before: tuple[datetime, str] | None = None, limit: int
) -> list[UserRow]:
    """Return users, newest first, of one tenant or of all, those before a time and id."""
    with db.transaction(None, role=Role.OWNER) as conn:
        return accounts.select_users(conn, tenant_id, before=before, limit=limit)


def show(tenant_id: TenantId, user_id: UserId) -> Person:
    """Return a user's trust score and preferences."""
    with db.transaction(tenant_id) as conn:
        known = trust_scores.select_trust(conn, user_id)
        preferred = preferences.select_preference(conn, user_id)
    return Person(user_id, known[0].score if known else None, preferred)


def prefer(
    conn: Connection, user_id: UserId, wanted: Mapping[str, Any], *, clear: bool
) -> Preference:
    """Change a user's preferences in the transaction of their tenant.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        user_id: Whose they are.
        wanted: `model` ('' lets routing choose), `temperature`, `tokens_max`; None changes nothing.
        clear: Whether all earlier ones are dropped first.

    Raises:
        ModelUnknown: The catalogue has no such model.
    """
    if wanted["model"] and not models.select_models(conn, wanted["model"]):
        raise ModelUnknown(f"no model {wanted['model']!r}: see `ailydian models list`.")
    before = preferences.select_preference(conn, user_id)
    after = _merged(Preference() if clear or before is None else before, wanted)
    preferences.upsert_preference(conn, user_id, after)
    what = {"before": before and as_document(before), "after": as_document(after)}
    audit.note(conn, "user.prefer", "UserPreference", user_id, what)
    return after


def _merged(before: Preference, wanted: Mapping[str, Any]) -> Preference:
    model = before.model if wanted["model"] is None else wanted["model"] or None
    temperature, tokens_max = wanted["temperature"], wanted["tokens_max"]
    return Preference(
        model=model,
        temperature=before.temperature if temperature is None else temperature,
        tokens_max=before.tokens_max if tokens_max is None else tokens_max,
        settings=before.settings,
    )
