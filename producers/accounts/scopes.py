"""What an API key may do: scopes, deny by default, bound by the role of the key's owner."""

from collections.abc import Iterable
from enum import StrEnum

from shared.errors import UsageError


class ScopesRefused(UsageError):
    """A scope that does not exist, or that the owner's role does not allow."""

    code = "scopes_refused"


class Scope(StrEnum):
    """A right to one kind of act; `:read` never changes anything."""

    AUDIT_READ = "audit:read"
    CONVERSATIONS_READ = "conversations:read"
    DEAD_READ = "dead:read"
    DEAD_REPLAY = "dead:replay"
    DEAD_WRITE = "dead:write"
    DOCUMENTS_READ = "documents:read"
    DOCUMENTS_WRITE = "documents:write"
    EVENTS_READ = "events:read"
    FEEDBACK_WRITE = "feedback:write"
    INCIDENTS_READ = "incidents:read"
    INCIDENTS_WRITE = "incidents:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    MODERATION_READ = "moderation:read"
    MODERATION_WRITE = "moderation:write"
    PREFERENCES_READ = "preferences:read"
    PREFERENCES_WRITE = "preferences:write"
    QUARANTINE_READ = "quarantine:read"
    QUARANTINE_WRITE = "quarantine:write"
    QUEUES_READ = "queues:read"
    QUEUES_WRITE = "queues:write"
    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    SCHEDULES_READ = "schedules:read"
    SCHEDULES_WRITE = "schedules:write"
    SEARCH_READ = "search:read"
    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    TENANTS_READ = "tenants:read"
    TENANTS_WRITE = "tenants:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    WORKFLOWS_READ = "workflows:read"
    WORKFLOWS_WRITE = "workflows:write"


# What concerns all tenants: queues, models and invalid messages belong to none.
_OF_ALL_TENANTS = frozenset(
    {
        Scope.MODELS_WRITE,
        Scope.QUARANTINE_READ,
        Scope.QUARANTINE_WRITE,
        Scope.QUEUES_WRITE,
        Scope.TENANTS_READ,
        Scope.TENANTS_WRITE,
    }
)
# What a member of a tenant who is no administrator of it has no business with.
_OF_ADMINISTRATORS = frozenset(
    {
        Scope.AUDIT_READ,
        Scope.KEYS_READ,
        Scope.SESSIONS_READ,
        Scope.USERS_READ,
        Scope.WEBHOOKS_READ,
    }
)
_ROLES = {
    "USER": frozenset(one for one in Scope if one.endswith(":read"))
    - _OF_ALL_TENANTS
    - _OF_ADMINISTRATORS,
    "ADMIN": frozenset(Scope) - _OF_ALL_TENANTS,
    "SUPER_ADMIN": frozenset(Scope),
}


def of_role(role: str) -> frozenset[Scope]:
    """Return everything that a role allows; nothing for an unknown role."""
    return _ROLES.get(role, frozenset())


def bound_role(role: str, tenant_id: str | None) -> str:
    """Return what a role is within one tenant, for a key bound to it: ADMIN at most."""
    return "ADMIN" if role == "SUPER_ADMIN" and tenant_id is not None else role


def effective(names: Iterable[str], role: str) -> frozenset[Scope]:
    """Return what a stored key may do now: its scopes, as far as its owner's role allows them.

    A name that is not known, such as one of the platform's own scopes, allows nothing.
    """
    return of_role(role) & known(names)


def known(names: Iterable[str]) -> set[Scope]:
    """Return those of the names that are scopes."""
    return {Scope(name) for name in names if name in _NAMES}


def wanted(names: Iterable[str], role: str) -> list[Scope]:
    """Return the scopes of a new key, sorted and once each.

    Raises:
        ScopesRefused: One does not exist, the role does not allow one, or there are none.
    """
    asked = sorted(set(names))
    if not asked:
        raise ScopesRefused("A key needs at least one scope, such as jobs:write.")
    unknown = [name for name in asked if name not in _NAMES]
    if unknown:
        raise ScopesRefused(
            f"Unknown scope {', '.join(map(repr, unknown))}; known scopes: {', '.join(Scope)}."
        )
    beyond = [name for name in asked if Scope(name) not in of_role(role)]
    if beyond:
        raise ScopesRefused(
            f"The role {role} of the key's owner does not allow {', '.join(beyond)}."
        )
    return [Scope(name) for name in asked]


_NAMES = frozenset(str(one) for one in Scope)
