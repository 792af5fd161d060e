"""Who asks: an API key, its scopes, and the tenant a request acts for."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from producers.accounts import api_keys, scopes
from producers.accounts.key_format import Peppers
from producers.accounts.scopes import Scope
from producers.accounts.tenants import SLUG
from producers.queries.accounts import api_keys as queries
from producers.queries.accounts.api_keys import HeldKey
from producers.web.problems import Refused
from shared import db
from shared.db import Connection, Role
from shared.errors import TenantNotFound
from shared.ids import TenantId
from shared.ledger import outbox
from shared.queries.accounts import accounts

# A revocation is noticed after this; a key costs one query in that time, however often it comes.
KNOWN_S: Final = 1.0
KNOWN_MAX: Final = 10_000
USED_EVERY_S: Final = 15.0

BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="apiKey", description="An API key, from `ailydian keys create`."
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `tenant_id` is None for one who may act for all tenants."""

    prefix: str
    role: str
    tenant_id: TenantId | None
    key_id: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Acting:
    """A request that may do what it asks for: by whom, and for which tenant.

    `tenant_id` is None where somebody of all tenants named none.
    """

    by: Principal
    tenant_id: TenantId | None

    @property
    def tenant(self) -> TenantId:
        """The one tenant that this request acts for.

        Raises:
            Refused: Somebody of all tenants named none.
        """
        if self.tenant_id is None:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "tenant_missing",
                "Name the tenant: this key may act for all, so ?tenant=SLUG must say for which.",
            )
        return self.tenant_id

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction of the tenant, in the name of the one who asks."""
        with self.named(), db.transaction(self.tenant) as conn:
            yield conn

    def named(self) -> AbstractContextManager[None]:
        """Do something in the name of the one who asks: jobs and the audit log have it."""
        return outbox.published_by(f"key:{self.by.prefix}")


@dataclass(frozen=True, slots=True)
class SeenKey:
    """What a key was found to be, None for unknown, and until when that is believed."""

    held: HeldKey | None
    until: float


@dataclass(slots=True)
class Keys:
    """The keys that this process has seen in the last second, and those to be noted as used."""

    pepper: Peppers
    platform_hash: str | None
    _seen: dict[str, SeenKey] = field(default_factory=dict, repr=False)
    _used: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _noted_at: float = 0.0

    def seen(self, presented: str) -> SeenKey | None:
        """Return what was found for a key within the last second, if it was looked up."""
        found = self._seen.get(presented)
        return None if found is None or found.until < time.monotonic() else found

    def look_up(self, presented: str) -> HeldKey | None:
        """Look a key up and keep it for a second. Blocks."""
        held = api_keys.look_up(self.pepper, presented, platform_hash=self.platform_hash)
        with self._lock:
            if len(self._seen) >= KNOWN_MAX:
                self._seen.clear()
            self._seen[presented] = SeenKey(held, time.monotonic() + KNOWN_S)
            if held is not None:
                self._used.add(held.id)
            due = self._used and self._noted_at + USED_EVERY_S < time.monotonic()
            used = self._take_used() if due else ()
        if used:
            _note_used(used)
        return held

    def flush(self) -> None:
        """Note all keys that were used, as when the process ends."""
        with self._lock:
            used = self._take_used()
        if used:
            _note_used(used)

    def _take_used(self) -> list[str]:
        used = sorted(self._used)
        self._used.clear()
        self._noted_at = time.monotonic()
        return used


def _note_used(ids: list[str]) -> None:
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        queries.update_last_used(conn, ids)


def needs(scope: Scope) -> Any:  # noqa: ANN401 - a dependency of FastAPI
    """Return the dependency that lets a request with this scope through, as `Acting`."""

    async def acting(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
        tenant: Annotated[
            str | None,
            Query(description="The tenant, for a key that may act for all.", pattern=SLUG),
        ] = None,
    ) -> Acting:
        by = await _principal(request.app.state.keys, bearer)
        if scope not in by.scopes:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "scope_missing",
                f"The key {by.prefix} has no scope {scope}, or its owner's role does not allow it.",
            )
        if tenant is None:
            return Acting(by, by.tenant_id)
        return Acting(by, await run_in_threadpool(_tenant_of, by, tenant))

    return Depends(acting)


async def _principal(keys: Keys, bearer: HTTPAuthorizationCredentials | None) -> Principal:
    if bearer is None or not bearer.credentials:
        raise _unauthorized("Send an API key: Authorization: Bearer aly_...")
    presented = bearer.credentials
    seen = keys.seen(presented)
    held = seen.held if seen else await run_in_threadpool(keys.look_up, presented)
    if held is None:
        raise _unauthorized("Unknown API key.")
    return principal_of(held)


def principal_of(held: HeldKey) -> Principal:
    """Return who a stored key lets ask, and for what.

    Raises:
        Refused: Nobody, any more.
    """
    if held.revoked or held.expired:
        state = "revoked" if held.revoked else "expired"
        raise _unauthorized(f"The API key {held.prefix} is {state}.")
    above = held.role == "SUPER_ADMIN"
    tenant_id = held.tenant_id or (None if above else held.owner_tenant_id)
    if not above and (tenant_id is None or tenant_id != held.owner_tenant_id):
        raise _unauthorized(f"The owner of the API key {held.prefix} is not of its tenant.")
    allowed = scopes.effective(held.scopes, held.role)
    return Principal(held.prefix, held.role, tenant_id, held.id, allowed)


def _unauthorized(sentence: str) -> Refused:
    headers = {"WWW-Authenticate": 'Bearer realm="ailydian"'}
    return Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", sentence, headers)


def _tenant_of(by: Principal, slug: str) -> TenantId:
    """Return a tenant that the principal may act for; others' tenants do not exist for it."""
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_tenant_id(conn, slug)
    if found is None or by.tenant_id not in (None, found):
        raise TenantNotFound(f"No tenant has the slug {slug!r}.")
    return found
