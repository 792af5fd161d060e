"""Who asks: an API key, its scopes, and the tenant a request acts for."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from producers.accounts import api_keys, request_rules, scopes
from producers.accounts.key_format import Peppers
from producers.accounts.scopes import Scope
from producers.accounts.tenants import SLUG
from producers.queries.accounts import api_keys as queries
from producers.queries.accounts.api_keys import HeldKey
from producers.queries.accounts.request_rules import HeldRules
from producers.web import visits
from producers.web.admission import first
from producers.web.principals import PRESENTED_CHARS_MAX, Principal, Recent
from producers.web.problems import Refused
from producers.web.sessions_seen import Sessions
from shared import db
from shared.db import Connection, Role
from shared.errors import TenantNotFound
from shared.ids import TenantId
from shared.ledger import outbox
from shared.queries.accounts import accounts

USED_EVERY_S: Final = 15.0
_UNKNOWN: Final = "Unknown API key."

BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="apiKey", description="An API key, from `ailydian keys create`."
)
COOKIE: Final = APIKeyCookie(
    name=visits.SESSION,
    auto_error=False,
    scheme_name="session",
    description="A session, from POST /v1/sessions; changes need the header X-CSRF-Token too. Off "
    f"loopback the cookie is called __Host-{visits.SESSION}.",
)


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
                f"Name the tenant with ?tenant=SLUG: the {self.by.title} may act for all.",
            )
        return self.tenant_id

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction of the tenant, in the name of the one who asks."""
        with self.named(), db.transaction(self.tenant) as conn:
            yield conn

    def named(self) -> AbstractContextManager[None]:
        """Do something in the name of the one who asks: jobs and the audit log have it."""
        return outbox.published_by(self.by.name)


@dataclass(slots=True)
class Keys:
    """The keys that this process has seen in the last second, and those to be noted as used."""

    pepper: Peppers
    platform_hash: str | None
    recent: Recent[str] = field(default_factory=Recent)
    _used: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _noted_at: float = 0.0

    def look_up(self, presented: str) -> Principal | str:
        """Look a key up and keep what was found for a second. Blocks."""
        if len(presented) > PRESENTED_CHARS_MAX:
            return _UNKNOWN
        found = api_keys.look_up(self.pepper, presented, platform_hash=self.platform_hash)
        by = _UNKNOWN if found is None else _principal(*found)
        self.recent.keep(presented, by)
        with self._lock:
            if found is not None:
                self._used.add(found[0].id)
            due = self._used and self._noted_at + USED_EVERY_S < time.monotonic()
            used = self._take_used() if due else ()
        if used:
            _note_used(used)
        return by

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
        _cookie: Annotated[str | None, Depends(COOKIE)],
        tenant: Annotated[
            str | None,
            Query(description="The tenant, for a key that may act for all.", pattern=SLUG),
        ] = None,
    ) -> Acting:
        by = await _who(request, bearer)
        await _let_in(request, by)
        demand(by, scope)
        if tenant is None:
            return Acting(by, by.tenant_id)
        return Acting(by, await run_in_threadpool(tenant_named, by, tenant))

    return Depends(first(acting))


def demand(by: Principal, scope: Scope) -> None:
    """Check that somebody has a scope, such as one that what was found asks for.

    Raises:
        Refused: They do not (403).
    """
    if scope not in by.scopes:
        raise Refused(HTTPStatus.FORBIDDEN, "scope_missing", _without(by, scope))


def demand_given(by: Principal, given: Iterable[Scope]) -> None:
    """Check that somebody has what they give away, by a key or by the role of a new user.

    Raises:
        Refused: They do not (403).
    """
    beyond = sorted({*given} - by.scopes)
    if beyond:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "scope_missing",
            f"The {by.title} cannot give what it has not: {', '.join(beyond)}.",
        )


async def _who(request: Request, bearer: HTTPAuthorizationCredentials | None) -> Principal:
    keys: Keys = request.app.state.keys
    if bearer is not None and bearer.credentials:
        presented = bearer.credentials
        if request.app.state.sessions.accepts(presented):
            return _found(await _of_session(request, presented))
        found = keys.recent.get(presented)
        if found is None:
            found = await run_in_threadpool(keys.look_up, presented)
        if isinstance(found, str) and request.app.state.sessions.policy.platform_hash is not None:
            person = await _of_session(request, presented)
            found = found if isinstance(person, str) else person
        return _found(found)
    token = visits.session_token(request)
    if token is None:
        raise _unauthorized("Send an API key: Authorization: Bearer aly_...")
    by = _found(await _of_session(request, token))
    assert by.session is not None, "found by its token"
    visits.check_own_page(request, by.session.csrf)
    return by


async def _of_session(request: Request, token: str) -> Principal | str:
    sessions: Sessions = request.app.state.sessions
    place = visits.place(request)
    found = sessions.recent.get((token, place))
    return await run_in_threadpool(sessions.look_up, token, place) if found is None else found


def _found(by: Principal | str) -> Principal:
    if isinstance(by, str):
        raise _unauthorized(by)
    return by


def why_not(held: HeldKey) -> str | None:
    """Return why nobody may ask with a stored key any more, None if somebody may."""
    if held.revoked or held.expired:
        state = "revoked" if held.revoked else "expired"
        return f"The API key {held.prefix} is {state}."
    tenant_id = held.acts_for
    if held.role != "SUPER_ADMIN" and (tenant_id is None or tenant_id != held.owner_tenant_id):
        return f"The owner of the API key {held.prefix} is not of its tenant."
    return None


def _principal(held: HeldKey, rules: HeldRules) -> Principal | str:
    refusal, tenant_id = why_not(held), held.acts_for
    if refusal is not None:
        return refusal
    role = scopes.bound_role(held.role, tenant_id)
    return Principal(
        held.id,
        f"key:{held.prefix}",
        f"key {held.prefix}",
        role,
        tenant_id,
        scopes.effective(held.scopes, role),
        request_rules.bounds(rules, tenant_id, held.id),
    )


async def _let_in(request: Request, by: Principal) -> None:
    """Let a request in that comes from an allowed address and is not one of too many.

    Raises:
        Refused: It does not (403), or is (429).
    """
    if by.bounds.networks:
        address = visits.address(request)
        if not request_rules.is_allowed(by.bounds, address):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "address_not_allowed",
                f"Requests of the {by.title} are not accepted from {address or 'there'}.",
            )
    request.state.standing = await request.app.state.rates.count(by.bounds.rates)


def _without(by: Principal, scope: Scope) -> str:
    if by.session is not None:
        return f"The role {by.role} does not allow {scope}."
    return f"The {by.title} has no scope {scope}, or its owner's role does not allow it."


def _unauthorized(sentence: str) -> Refused:
    headers = {"WWW-Authenticate": 'Bearer realm="ailydian"'}
    return Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", sentence, headers)


def tenant_named(by: Principal, slug: str) -> TenantId:
    """Return a tenant that the principal may act for; others' tenants do not exist for it."""
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_tenant_id(conn, slug)
    if found is None or by.tenant_id not in (None, found):
        raise TenantNotFound(f"No tenant has the slug {slug!r}.")
    return found
