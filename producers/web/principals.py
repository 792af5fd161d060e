"""Who asks: a key or a person, and how long what was found is believed."""

import threading
import time
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from producers.accounts.request_rules import RequestBounds
from producers.accounts.scopes import Scope
from shared.ids import TenantId, UserId

# A revocation is noticed after this; a key costs one query in that time, however often it comes.
KNOWN_S: Final = 1.0
KNOWN_MAX: Final = 10_000
# Longer than each key and token that there is: what is longer is not looked up, and not kept.
PRESENTED_CHARS_MAX: Final = 2_048
Presented = TypeVar("Presented")


@dataclass(frozen=True, slots=True)
class PersonSession:
    """The session by which a person asks; `csrf` are the tokens that prove its own pages."""

    id: str
    user_id: UserId
    email: str
    csrf: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        id: Of the key, or of the session.
        name: For jobs and the audit log, such as `key:aly_...` or `user:ID`.
        title: For sentences, such as `key aly_...`.
        role: Of the person, or of the key's owner.
        tenant_id: None for one who may act for all tenants.
        scopes: What it may do.
        bounds: How often and from where.
        session: Of a person; None for a key.
    """

    id: str
    name: str
    title: str
    role: str
    tenant_id: TenantId | None
    scopes: frozenset[Scope]
    bounds: RequestBounds
    session: PersonSession | None = None


@dataclass(frozen=True, slots=True)
class SeenPrincipal:
    """Who was found, or why nobody, and until when that is believed."""

    by: Principal | str
    until: float


@dataclass(slots=True)
class Recent(Generic[Presented]):
    """Who was found in the last second, by what they presented."""

    _seen: dict[Presented, SeenPrincipal] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, presented: Presented) -> Principal | str | None:
        """Return who was found within the last second, if that was looked up."""
        found = self._seen.get(presented)
        return None if found is None or found.until < time.monotonic() else found.by

    def keep(self, presented: Presented, by: Principal | str) -> None:
        """Keep who was found for a second."""
        now = time.monotonic()
        with self._lock:
            self._seen.pop(presented, None)
            if len(self._seen) >= KNOWN_MAX:
                self._seen.clear()
            # They are in the order in which they end.
            while self._seen and next(iter(self._seen.values())).until < now:
                del self._seen[next(iter(self._seen))]
            self._seen[presented] = SeenPrincipal(by, now + KNOWN_S)

    def forget(self) -> None:
        """Look everybody up again, as when somebody was revoked here."""
        with self._lock:
            self._seen.clear()
