"""Sessions of people: made at login, looked up for requests, listed and revoked.

A token of ours is stored as a hash. The platform's own sessions are accepted as they are and never
written: that one is revoked, or was seen, is a row of our own.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from producers.accounts import key_format, session_tokens
from producers.accounts.key_format import Peppers
from producers.queries.accounts import request_rules
from producers.queries.accounts import sessions as queries
from producers.queries.accounts.people import LoginUser
from producers.queries.accounts.request_rules import HeldRules
from producers.queries.accounts.sessions import (
    HeldSession,
    NewSession,
    SessionFilters,
    SessionRow,
)
from shared import db
from shared.db import Connection, Role
from shared.errors import PermanentError
from shared.ids import TenantId
from shared.ledger import outbox
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry
from shared.settings import Settings

AGENT_CHARS_MAX: Final = 500
PAGE_ROWS: Final = 1_000  # of sessions that are revoked in one statement


class SessionNotFound(PermanentError):
    """There is not such a session, or not for the one who asks."""

    code = "session_not_found"


class LoginRefused(PermanentError):
    """The person may not log in."""

    code = "login_refused"


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How sessions are stored and how long they last.

    Attributes:
        pepper: What tokens of ours are hashed with.
        idle_s: A session of ours that is not used for so long ends.
        lasts_s: However it is used, it ends after this.
        platform_hash: How the platform stores its tokens; None accepts none of them.
    """

    pepper: Peppers
    idle_s: float = 43_200.0
    lasts_s: float = 604_800.0
    platform_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ClientPlace:
    """Where a request comes from, and by what."""

    address: str | None
    agent: str | None

    @classmethod
    def of(cls, address: object, agent: str | None) -> "ClientPlace":
        """Return it as it is stored."""
        return cls(None if address is None else str(address), agent and agent[:AGENT_CHARS_MAX])


@dataclass(frozen=True, slots=True)
class NewLogin:
    """A session that was made; its secrets are shown this once."""

    id: str
    token: str = field(repr=False)
    csrf: str = field(repr=False)
    user: str
    role: str
    lasts_s: float


def policy(settings: Settings, pepper: Peppers) -> SessionPolicy:
    """Return what the settings say of sessions."""
    return SessionPolicy(
        pepper, settings.session_idle_s, settings.session_s, settings.platform_session_hash
    )


def create(
    conn: Connection, policy: SessionPolicy, person: LoginUser, place: ClientPlace, how: str
) -> NewLogin:
    """Make a session of a person, in the caller's transaction.

    Args:
        conn: In the owner's role.
        policy: How it is stored and how long it lasts.
        person: Whose it is.
        place: From where they log in.
        how: By what, for the audit log: password, link or openid.

    Raises:
        LoginRefused: They belong to no tenant and may not act for all.
    """
    if person.tenant_id is None and person.role != "SUPER_ADMIN":
        raise LoginRefused(f"{person.email} belongs to no tenant: an administrator can change it.")
    token = session_tokens.new()
    new = NewSession(
        person.id, policy.pepper.hash(token), place.address, place.agent, policy.lasts_s
    )
    session_id = queries.insert_session(conn, new)
    with outbox.published_by(f"user:{person.id}"):
        _note(conn, person.tenant_id, "session.create", session_id, {"by": how}, place)
    csrf = session_tokens.csrf(policy.pepper, token)[0]
    return NewLogin(session_id, token, csrf, person.email, person.role, policy.lasts_s)


def look_up(
    policy: SessionPolicy, token: str, place: ClientPlace, *, noted: bool = True
) -> tuple[HeldSession, HeldRules] | None:
    """Return the session that a request presents, whatever its state, with its tenant's rules.

    A live one is noted as seen, from time to time; one that comes from another address or by
    another agent than before at once, and in the audit log; not if `noted` is false.
    """
    if session_tokens.is_ours(token):
        hashes = policy.pepper.hashes(token)
    else:
        hashes = key_format.platform_forms(token, policy.platform_hash)
    if not hashes:
        return None
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        held = queries.select_held_session(conn, hashes, idle_s=policy.idle_s)
        if held is None or not any(hmac.compare_digest(held.token, one) for one in hashes):
            return None
        if noted and held.state == "live":
            _note_seen(conn, held, place)
        tenant_id = acts_for(held)
        return held, request_rules.select_held_rules(conn, tenant_id, None)


def acts_for(held: HeldSession) -> TenantId | None:
    """Return the tenant that a person acts for; None for all."""
    return None if held.role == "SUPER_ADMIN" else held.tenant_id


def _note_seen(conn: Connection, held: HeldSession, place: ClientPlace) -> None:
    before = {"address": held.address, "agent": held.agent}
    after = {"address": place.address, "agent": place.agent}
    moved = any(before[one] not in (None, after[one]) for one in before)
    if held.is_due or before != after:
        queries.note_seen(conn, held.id, place.address, place.agent)
    if moved:
        with outbox.published_by(f"user:{held.user_id}"):
            what = {"before": before, "after": after}
            _note(conn, held.tenant_id, "session.move", held.id, what, place)


def list_sessions(
    policy: SessionPolicy,
    wanted: SessionFilters,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[SessionRow]:
    """Return sessions, newest first, those before a time and id."""
    with db.transaction(None, role=Role.OWNER) as conn:
        return queries.select_sessions(
            conn, wanted, idle_s=policy.idle_s, before=before, limit=limit
        )


def revoke(conn: Connection, policy: SessionPolicy, wanted: SessionFilters) -> SessionRow:
    """Revoke one session, by its id. Every process refuses it within a second.

    Args:
        conn: In the owner's role.
        policy: Of sessions.
        wanted: Its id, and those among which it must be.

    Raises:
        SessionNotFound: There is not such a session among those that are wanted.
    """
    _revoke(conn, wanted)
    rows = queries.select_sessions(conn, wanted, idle_s=policy.idle_s, limit=1)
    if not rows:
        raise SessionNotFound(f"No session has the id {wanted.id!r}.")
    return rows[0]


def revoke_all(conn: Connection, wanted: SessionFilters) -> int:
    """Revoke all sessions of a person or a tenant, in pages. Returns how many.

    Args:
        conn: In the owner's role.
        wanted: Whose; of one or the other.
    """
    assert wanted.user_id or wanted.tenant_id, "nobody ends the sessions of the whole installation"
    return _revoke(conn, wanted)


def replace(conn: Connection, policy: SessionPolicy, token: str | None) -> None:
    """Revoke the session that somebody presents who logs in again, if it is of ours."""
    if token is None or not session_tokens.is_ours(token):
        return
    hashes = policy.pepper.hashes(token)
    held = queries.select_held_session(conn, hashes, idle_s=policy.idle_s)
    if held is not None:
        with outbox.published_by(f"user:{held.user_id}"):
            _revoke(conn, SessionFilters(None, id=held.id))


def _revoke(conn: Connection, wanted: SessionFilters) -> int:
    count = 0
    while True:
        ended = queries.revoke_sessions(conn, wanted, audit.who(), limit=PAGE_ROWS)
        acts = [
            AuditEntry(one.tenant_id, audit.who(), "session.revoke", "Session", one.id, {})
            for one in ended
            if one.is_new
        ]
        if acts:
            audit.write(conn, acts)
        count += len(acts)
        if len(ended) < PAGE_ROWS:
            return count


def _note(
    conn: Connection,
    tenant_id: TenantId | None,
    action: str,
    session_id: str,
    what: Mapping[str, object],
    place: ClientPlace,
) -> None:
    act = AuditEntry(
        tenant_id,
        audit.who(),
        action,
        "Session",
        session_id,
        what,
        place.address,
        place.agent,
    )
    audit.write(conn, [act])
