"""How many requests a tenant or a key may make, and from where: set and shown here.

A tenant has the rate of its tier unless it has one of its own; a key has one only if it is set, and
its requests count for its tenant as well.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from producers.accounts import api_keys
from producers.json_rows import as_document
from producers.queries.accounts import request_rules as queries
from producers.queries.accounts.request_rules import HeldRules, RequestRule
from shared import db
from shared.db import Connection, Role
from shared.errors import UsageError
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry

ADDRESSES_MAX: Final = 1_000
RATE_MAX: Final = 1_000_000.0
# Without a word on it, so many seconds' worth may come at once.
BURST_S: Final = 10.0
# What a rate fills in this time is the most that may come at once: a bucket that nobody has asked
# for as long is full, and is deleted.
FULL_S: Final = 86_400.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RateRefused(UsageError):
    """A rate or its burst is invalid."""

    code = "rate_refused"


class NetworkRefused(UsageError):
    """A text is not a network."""

    code = "network_refused"


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second, and how many at once after a rest."""

    per_s: float
    burst: float


TIER_RATES: Final[Mapping[str, Rate]] = {
    "FREE": Rate(50, 500),
    "PRO": Rate(500, 5_000),
    "ENTERPRISE": Rate(5_000, 50_000),
}


def network(text: str) -> Network:
    """Read a network, such as `10.0.0.0/8`, `2001:db8::/32` or one address.

    What IPv6 writes of IPv4 (`::ffff:10.0.0.0/104`) is the network of IPv4.

    Raises:
        NetworkRefused: It is not one.
    """
    try:
        found = ipaddress.ip_network(text.strip())
    except ValueError:
        raise NetworkRefused(
            f"invalid network {text!r}: use an address or a CIDR without host bits, such as "
            f"10.0.0.0/8 or 2001:db8::/32."
        ) from None
    if isinstance(found, ipaddress.IPv6Network):
        inner = found.network_address.ipv4_mapped
        if inner is not None and found.prefixlen >= 96:  # noqa: PLR2004 - bits before an IPv4
            return ipaddress.IPv4Network((inner, found.prefixlen - 96))
    return found


def is_within(address: Address | None, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; an unknown one is in none."""
    return address is not None and any(
        address.version == one.version and address in one for one in networks
    )


def rate(per_s: float, burst: float | None) -> Rate:
    """Return a rate that was asked for.

    Raises:
        RateRefused: It is out of range.
    """
    burst = max(1.0, per_s * BURST_S) if burst is None else burst
    burst_max = min(RATE_MAX * BURST_S, per_s * FULL_S)
    if not 0 < per_s <= RATE_MAX or not 1 <= burst <= burst_max:
        raise RateRefused(
            f"The rate must be above 0 and at most {RATE_MAX:,.0f} requests a second, the burst at "
            f"least 1 and at most {RATE_MAX * BURST_S:,.0f} and what the rate allows in a day."
        )
    return Rate(per_s, burst)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose rule it is: a tenant's, or with `key_id` that of a key of the tenant."""

    tenant_id: TenantId | None
    key_id: str | None = None

    @property
    def named(self) -> tuple[TenantId | None, str | None]:
        """As the table has it: one of the two, as a key may change its tenant."""
        return (self.tenant_id, None) if self.key_id is None else (None, self.key_id)


def of_key(tenant_id: TenantId | None, name: str) -> Subject:
    """Return a key as the subject of a rule.

    Args:
        tenant_id: Of the one who asks; None sees the keys of all.
        name: Id or prefix.

    Raises:
        KeyNotFound: The tenant has no such key.
    """
    return Subject(tenant_id, api_keys.show(tenant_id, name).id)


def show(subject: Subject) -> RequestRule:
    """Return a rule."""
    with db.transaction(None, role=Role.OWNER) as conn:
        return queries.select_rule(conn, *subject.named)


@dataclass(frozen=True, slots=True)
class LockedRule:
    """A rule that nobody else changes until this transaction ends.

    Attributes:
        subject: Whose.
        tenant_id: Of the subject, not of the caller; None for a key of all tenants.
        rule: As it is.
    """

    subject: Subject
    tenant_id: TenantId | None
    rule: RequestRule


def lock(conn: Connection, subject: Subject) -> LockedRule:
    """Read a rule that is to be changed, in the transaction of the change.

    Args:
        conn: In the owner's role.
        subject: Whose.

    Raises:
        KeyNotFound: There is not such a key any more.
    """
    tenant_id = subject.tenant_id
    if subject.key_id is not None:
        tenant_id = api_keys.lock(conn, tenant_id, subject.key_id).tenant_id
    elif tenant_id is not None:
        queries.lock_tenant(conn, tenant_id)
    return LockedRule(subject, tenant_id, queries.select_rule(conn, *subject.named))


def limit(subject: Subject, wanted: Rate | None) -> RequestRule:
    """Set the rate of a rule, or with None leave it to the tier."""
    per_s, burst = (None, None) if wanted is None else (wanted.per_s, wanted.burst)
    with db.transaction(None, role=Role.OWNER) as conn:
        before = lock(conn, subject)
        return put(conn, before, replace(before.rule, rate_per_s=per_s, burst=burst))


def allow(subject: Subject, addresses: list[str]) -> RequestRule:
    """Set the addresses that requests may come from; without any, from anywhere.

    Raises:
        NetworkRefused: One is invalid, or there are too many.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        before = lock(conn, subject)
        return put(conn, before, replace(before.rule, addresses=addresses))


def put(conn: Connection, before: LockedRule, wanted: RequestRule) -> RequestRule:
    """Set a whole rule. Every process follows it within a second.

    Args:
        conn: In the owner's role, of the transaction that has locked the rule.
        before: The rule until now.
        wanted: The rule from now on.

    Raises:
        RateRefused: The rate is out of range.
        NetworkRefused: An address is invalid, or there are too many.
    """
    if len(wanted.addresses) > ADDRESSES_MAX:
        raise NetworkRefused(f"A rule must have at most {ADDRESSES_MAX:,} addresses.")
    addresses = sorted({str(network(one)) for one in wanted.addresses})
    after = RequestRule(addresses=addresses)
    if wanted.rate_per_s is not None:
        asked = rate(wanted.rate_per_s, wanted.burst)
        after = replace(after, rate_per_s=asked.per_s, burst=asked.burst)
    elif wanted.burst is not None:
        raise RateRefused("A burst needs a rate.")
    if before.rule != after:
        subject = before.subject
        queries.put_rule(conn, *subject.named, after, audit.who())
        resource = "Tenant" if subject.key_id is None else "ApiKey"
        resource_id = subject.key_id or subject.tenant_id
        what = {"before": as_document(before.rule), "after": as_document(after)}
        act = AuditEntry(
            before.tenant_id, audit.who(), "requests.rule", resource, resource_id, what
        )
        audit.write(conn, [act])
    return after


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """What a request is held to, read: rates by what they count, and networks."""

    rates: Mapping[str, Rate]
    networks: Sequence[Sequence[Network]]


def bounds(held: HeldRules, tenant_id: TenantId | None, key_id: str | None) -> RequestBounds:
    """Return what the requests of a key, or of a person of a tenant, are held to."""
    rates: dict[str, Rate] = {}
    if key_id is not None and (found := _rate(held.key_rate_per_s, held.key_burst)):
        rates[f"key:{key_id}"] = found
    if tenant_id is not None:
        own = _rate(held.tenant_rate_per_s, held.tenant_burst)
        rates[f"tenant:{tenant_id}"] = own or TIER_RATES[held.tier or "FREE"]
    lists = (held.key_addresses, held.tenant_addresses)
    return RequestBounds(rates, [[network(each) for each in one] for one in lists if one])


def is_allowed(bounds: RequestBounds, address: Address | None) -> bool:
    """Whether requests may come from an address: each list that there is must have it."""
    return all(is_within(address, one) for one in bounds.networks)


def _rate(per_s: float | None, burst: float | None) -> Rate | None:
    return None if per_s is None or burst is None else Rate(per_s, burst)
