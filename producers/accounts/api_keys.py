"""API keys: made, rotated and revoked here, and looked up when a request presents one.

What the platform has written in "ApiKey" is accepted as it is and never changed but for
`lastUsedAt`: a revocation is a row of our own.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from producers.accounts import key_format, scopes
from producers.accounts.key_format import Peppers
from producers.queries.accounts import api_keys as queries
from producers.queries.accounts import request_rules
from producers.queries.accounts.api_keys import HeldKey, KeyRow, LockedKey, NewKeyRow
from producers.queries.accounts.request_rules import HeldRules
from shared import db
from shared.db import Connection, Role
from shared.errors import ConfigurationBroken, PermanentError, UsageError
from shared.ids import TenantId, UserId
from shared.operations import audit
from shared.queries.accounts import accounts
from shared.queries.operations.audit_logs import AuditEntry
from shared.settings import Settings

NAME_CHARS_MAX = 100
PEPPER_CHARS_MIN = 32
LIVE_NAMESAKES_MAX = 2  # the old one and its successor


class KeyNotFound(PermanentError):
    """No API key has this id or prefix."""

    code = "key_not_found"


class KeyOwnerRefused(UsageError):
    """Who shall own a key may not own one like it."""

    code = "key_owner_refused"


class KeyRefused(UsageError):
    """The key cannot be made or rotated."""

    code = "key_refused"


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key; `key` is shown once and stored nowhere."""

    id: str
    prefix: str
    key: str = field(repr=False)
    name: str
    owner: str
    scopes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new key shall be; `expires_s` is None for a key without an end."""

    name: str
    scopes: Sequence[str]
    expires_s: float | None = None


def peppers(settings: Settings, signing_key: bytes) -> Peppers:
    """Return the secrets that keys are hashed with.

    Args:
        settings: `key_pepper` is one secret, or several by comma: the first makes new hashes.
        signing_key: Unset, the pepper comes from it: what rotates one then rotates the other.

    Raises:
        ConfigurationBroken: A pepper is too short.
    """
    if settings.key_pepper is None:
        return Peppers((hmac.new(signing_key, b"api keys", hashlib.sha256).digest(),))
    given = [one.strip() for one in settings.key_pepper.get_secret_value().split(",")]
    if any(len(one) < PEPPER_CHARS_MIN for one in given):
        raise ConfigurationBroken(
            f"AILYDIAN_KEY_PEPPER: each pepper must have at least {PEPPER_CHARS_MIN} characters, "
            "for example from `openssl rand -hex 32`."
        )
    return Peppers(tuple(one.encode() for one in given))


def create(pepper: Peppers, tenant_id: TenantId | None, user_id: UserId, wish: Wish) -> MadeKey:
    """Make a key of a tenant's user, or without a tenant one of all tenants.

    Raises:
        KeyOwnerRefused: A key of all tenants is a SUPER_ADMIN's alone.
        ScopesRefused: A scope is unknown, or the owner's role does not allow it.
        KeyRefused: The name is empty or too long.
    """
    if not 0 < len(wish.name.strip()) <= NAME_CHARS_MAX:
        raise KeyRefused(f"The name of a key must have 1 to {NAME_CHARS_MAX} characters.")
    with db.transaction(None, role=Role.OWNER) as conn:
        owner = accounts.select_user(conn, user_id)
        if tenant_id is None and owner.role != "SUPER_ADMIN":
            raise KeyOwnerRefused(
                f"{owner.email} is {owner.role}: a key of all tenants is a SUPER_ADMIN's. Name the "
                "tenant."
            )
        allowed = scopes.wanted(wish.scopes, scopes.bound_role(owner.role, tenant_id))
        made = key_format.new()
        row = NewKeyRow(
            prefix=made.prefix,
            hash=pepper.hash(made.secret),
            name=wish.name.strip(),
            user_id=user_id,
            tenant_id=tenant_id,
            scopes=allowed,
            expires_s=wish.expires_s,
        )
        key_id = queries.insert_key(conn, row)
        what = {"prefix": made.prefix, "scopes": allowed, "owner": user_id}
        _note(conn, tenant_id, "key.create", key_id, what)
    return MadeKey(key_id, made.prefix, made.secret, row.name, owner.email, allowed)


def rotate(pepper: Peppers, tenant_id: TenantId | None, name: str, *, overlap_s: float) -> MadeKey:
    """Make a key's successor; the old one goes on for `overlap_s` seconds.

    It is held to the same rule: as many requests, from the same addresses.

    Raises:
        KeyNotFound: The tenant has no such key.
        KeyRefused: It is not live, or it has a live successor already.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        locked = lock(conn, tenant_id, name)
        old = found(conn, locked.tenant_id, locked.id)
        if old.state != "live":
            raise KeyRefused(f"The key {old.prefix} is {old.state}: create a new one.")
        if queries.count_live_namesakes(conn, old.id) >= LIVE_NAMESAKES_MAX:
            raise KeyRefused(
                f"{old.name!r} has {LIVE_NAMESAKES_MAX} live keys already: revoke one of them."
            )
        made = key_format.new()
        key_id = queries.insert_successor(
            conn, old.id, prefix=made.prefix, key_hash=pepper.hash(made.secret)
        )
        request_rules.copy_key_rule(conn, old.id, key_id, audit.who())
        queries.end_after(conn, old.id, overlap_s)
        what = {"prefix": made.prefix, "before": old.prefix, "overlapSeconds": overlap_s}
        _note(conn, locked.tenant_id, "key.rotate", key_id, what)
    return MadeKey(key_id, made.prefix, made.secret, old.name, old.owner, old.scopes)


def revoke(conn: Connection, tenant_id: TenantId | None, name: str) -> KeyRow:
    """Revoke a key, by id or prefix; processes notice within a second.

    Args:
        conn: In the owner's role.
        tenant_id: Whose; None for any.
        name: Id or prefix.

    Raises:
        KeyNotFound: The tenant has no such key.
    """
    locked = lock(conn, tenant_id, name)
    is_new = queries.insert_revocation(conn, locked.id, audit.who())
    key = found(conn, locked.tenant_id, locked.id)
    if is_new:
        _note(conn, locked.tenant_id, "key.revoke", key.id, {"prefix": key.prefix})
    return key


def show(tenant_id: TenantId | None, name: str) -> KeyRow:
    """Return a key, by id or prefix.

    Raises:
        KeyNotFound: The tenant has no such key.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        return found(conn, tenant_id, name)


def list_keys(
    tenant_id: TenantId | None, *, before: tuple[datetime, str] | None = None, limit: int
) -> list[KeyRow]:
    """Return keys, newest first, those before a time and id."""
    with db.transaction(None, role=Role.OWNER) as conn:
        return queries.select_keys(conn, tenant_id, before=before, limit=limit)


def found(conn: Connection, tenant_id: TenantId | None, name: str) -> KeyRow:
    """Return a key by id or prefix.

    Raises:
        KeyNotFound: The tenant has none such.
    """
    rows = queries.select_keys(conn, tenant_id, name=name, limit=1)
    if not rows:
        raise _not_found(name)
    return rows[0]


def lock(conn: Connection, tenant_id: TenantId | None, name: str) -> LockedKey:
    """Lock a key, by id or prefix, before what it is decides what becomes of it.

    Raises:
        KeyNotFound: The tenant has none such.
    """
    locked = queries.lock_key(conn, tenant_id, name)
    if locked is None:
        raise _not_found(name)
    return locked


def look_up(
    pepper: Peppers, presented: str, *, platform_hash: str | None
) -> tuple[HeldKey, HeldRules] | None:
    """Return the key that a request presents, whatever its state, with what it is held to.

    None is an unknown one.

    Args:
        pepper: For keys of ours.
        presented: The whole key.
        platform_hash: How the platform stores its own keys; None accepts none of them.
    """
    if key_format.is_ours(presented):
        hashes = pepper.hashes(presented)
    else:
        hashes = key_format.platform_forms(presented, platform_hash)
    if not hashes:
        return None
    with db.transaction(None, role=Role.OWNER) as conn:
        held = queries.select_held(conn, hashes)
        if held is None or not any(hmac.compare_digest(held.hash, one) for one in hashes):
            return None
        return held, request_rules.select_held_rules(conn, held.acts_for, held.id)


def _not_found(name: str) -> KeyNotFound:
    return KeyNotFound(f"No API key has the id or prefix {name!r}: see `ailydian keys list`.")


def _note(
    conn: Connection,
    tenant_id: TenantId | None,
    action: str,
    key_id: str,
    what: Mapping[str, object],
) -> None:
    audit.write(conn, [AuditEntry(tenant_id, audit.who(), action, "ApiKey", key_id, what)])
