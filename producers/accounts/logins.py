"""How people log in: by password, throttled, or by a link that works once."""

import hashlib
import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Final

from producers.accounts import passwords, sessions
from producers.accounts.request_rules import Rate
from producers.accounts.sessions import ClientPlace, NewLogin, SessionPolicy
from producers.queries.accounts import login_links, people, request_buckets
from producers.queries.accounts.login_links import NewLink
from producers.queries.accounts.people import LoginUser
from shared import db
from shared.db import Connection, Role
from shared.errors import PermanentError, UserNotFound
from shared.operations import audit
from shared.queries.accounts import accounts
from shared.queries.operations.audit_logs import AuditEntry

# Failures: ten at once of one person, then one a minute; thirty of one address, one in ten seconds.
OF_PERSON: Final = Rate(1 / 60, 10)
OF_ADDRESS: Final = Rate(1 / 10, 30)
LINK_S: Final = 600.0
OPERATOR: Final = "operator@localhost"
_HASH_KNOWN_S: Final = 60.0
_NET_OF_CLIENT: Final = 64  # bits of IPv6 that one customer has


class LoginWrong(PermanentError):
    """The e-mail or the password is wrong, or the link does not work; it is not told which."""

    code = "login_wrong"


class LoginThrottled(PermanentError):
    """Too many failed.

    Attributes:
        retry_after_s: When to try again.
    """

    code = "login_throttled"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class _AnyHash:
    """A hash of the platform's, looked up once a minute: the work it asks for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._hash: str | None = None

    def get(self, conn: Connection) -> str | None:
        with self._lock:
            if self._until < time.monotonic():
                self._hash = people.select_any_hash(conn)
                self._until = time.monotonic() + _HASH_KNOWN_S
            return self._hash


_any_hash = _AnyHash()


def by_password(
    policy: SessionPolicy,
    email: str,
    password: str,
    place: ClientPlace,
    *,
    before: str | None = None,
) -> NewLogin:
    """Log a person in. Takes a tenth of a second of CPU, whether or not they exist.

    Args:
        policy: Of sessions.
        email: In any case.
        password: As it was typed.
        place: From where.
        before: The token of the session that they present; it is revoked.

    Raises:
        LoginThrottled: Too many failed, of this person or from this address.
        LoginWrong: The e-mail or the password is wrong.
        LoginRefused: They belong to no tenant.
    """
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        person = people.select_login_user(conn, email)
        other = _any_hash.get(conn)
    # Who was found, however the address is written: the database knows more letters alike.
    subjects = _subjects(policy, email if person is None else person.email, place)
    _throttle(subjects)
    stored = None if person is None else person.password_hash
    if not passwords.fits(password, stored, other=other) or person is None:
        raise LoginWrong("The e-mail or the password is wrong.")
    with db.transaction(None, role=Role.OWNER) as conn:
        for subject, rate in subjects:
            _take(conn, subject, rate, wanted=0, returned=1)
        sessions.replace(conn, policy, before)
        return sessions.create(conn, policy, person, place, "password")


def make_link(policy: SessionPolicy, email: str | None) -> tuple[str, str]:
    """Make a link's secret; it works once, for ten minutes.

    Args:
        policy: Of sessions.
        email: Whose; None is the first who may act for all tenants, created where there is none.

    Returns:
        The secret, which is shown this once, and the e-mail.

    Raises:
        UserNotFound: Nobody has this e-mail.
    """
    token = secrets.token_urlsafe(32)
    with db.transaction(None, role=Role.OWNER) as conn:
        person = _linked(conn, email)
        link = NewLink(policy.pepper.hash(token), person.id, audit.who(), LINK_S)
        login_links.insert_link(conn, link)
        what = {"email": person.email, "seconds": LINK_S}
        act = AuditEntry(person.tenant_id, audit.who(), "login.link", "User", person.id, what)
        audit.write(conn, [act])
    return token, person.email


def by_link(
    policy: SessionPolicy, token: str, place: ClientPlace, *, before: str | None = None
) -> NewLogin:
    """Log in the person of a link, and use it up.

    Raises:
        LoginThrottled: Too many failed from this address.
        LoginWrong: It is unknown, used or expired.
    """
    subjects = _subjects(policy, None, place)
    _throttle(subjects)
    with db.transaction(None, role=Role.OWNER) as conn:
        user_id = login_links.use_link(conn, policy.pepper.hashes(token))
        if user_id is None:
            raise LoginWrong(
                "This link does not work: it was used, or is older than ten minutes. "
                "`ailydian console login` prints another."
            )
        for subject, rate in subjects:
            _take(conn, subject, rate, wanted=0, returned=1)
        sessions.replace(conn, policy, before)
        person = people.select_linked_user(conn, user_id)
        return sessions.create(conn, policy, person, place, "link")


def by_email(
    policy: SessionPolicy, email: str, place: ClientPlace, *, before: str | None = None
) -> NewLogin:
    """Log in the person whom a provider has named by a verified e-mail address.

    Raises:
        LoginWrong: No user has it.
        LoginRefused: They belong to no tenant.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        person = people.select_login_user(conn, email)
        if person is None:
            raise LoginWrong(f"No user has the e-mail {email!r:.200}: an administrator creates it.")
        sessions.replace(conn, policy, before)
        return sessions.create(conn, policy, person, place, "openid")


def _linked(conn: Connection, email: str | None) -> LoginUser:
    if email is not None:
        person = people.select_login_user(conn, email)
        if person is None:
            raise UserNotFound(f"No user has the e-mail {email!r}: see `ailydian user list`.")
        return person
    person = people.select_operator(conn)
    if person is not None:
        return person
    row, created = accounts.insert_user(
        conn, OPERATOR, name="Operator", role="SUPER_ADMIN", tenant_id=None
    )
    if created:
        act = AuditEntry(None, audit.who(), "user.create", "User", row.id, {"role": row.role})
        audit.write(conn, [act])
    person = people.select_operator(conn)
    if person is None:
        raise UserNotFound(f"{OPERATOR} is not a SUPER_ADMIN: name a user with --email.")
    return person


def _subjects(
    policy: SessionPolicy, email: str | None, place: ClientPlace
) -> Sequence[tuple[str, Rate]]:
    """Return what failures are counted by; who they are stands in no table."""
    found = [(f"login-from:{_client(place.address)}", OF_ADDRESS)]
    if email is not None:
        named = b"login of " + email.strip().lower().encode()
        digest = hmac.new(policy.pepper.secrets[0], named, hashlib.sha256).hexdigest()
        found.append((f"login:{digest}", OF_PERSON))
    return found


def _client(address: str | None) -> str:
    if address is None or ":" not in address:
        return address or "unknown"
    return str(ipaddress.ip_network((address, _NET_OF_CLIENT), strict=False))


def _throttle(subjects: Sequence[tuple[str, Rate]]) -> None:
    """Count a try of each before it is made: those at once, in several processes, count too.

    Raises:
        LoginThrottled: There were too many.
    """
    for subject, rate in subjects:
        with db.transaction(None, role=Role.OWNER, durable=False) as conn:
            grant = _take(conn, subject, rate, wanted=1, returned=0)
        if grant.granted < 1:
            wait_s = max(1, math.ceil((1 - grant.tokens) / rate.per_s))
            raise LoginThrottled(f"Too many logins failed: try again in {wait_s} s.", wait_s)


def _take(
    conn: Connection, subject: str, rate: Rate, *, wanted: float, returned: float
) -> request_buckets.Grant:
    return request_buckets.take(
        conn, subject, per_s=rate.per_s, burst=rate.burst, wanted=wanted, returned=returned
    )
