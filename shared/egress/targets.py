"""Targets of fetches: URLs are parsed strictly and their host is resolved once.

Ambiguous URLs are rejected.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import quote, urljoin

from shared.egress.addresses import is_public
from shared.errors import AddressRefused, ConfigurationBroken, TransientError
from shared.settings import Settings

Resolver = Callable[[str, int], Sequence[str]]

URL_CHARS_MAX: Final = 4_000
ADDRESSES_MAX: Final = 32
_HOST_CHARS_MAX: Final = 253
_PORTS: Final = {"https": 443, "http": 80}
_BAD: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE: Final = "!$%&'()*+,-./:;=?@_~[]"


class AddressUnreachable(TransientError):
    """The host is not found, not responding, or closed the connection."""

    code = "address_unreachable"


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Exceptions to the rule of https to public addresses.

    Attributes:
        http: Plain http, to port 80.
        allow: Addresses and ports exempt from all rules, such as an internal server.
    """

    http: bool = False
    allow: frozenset[tuple[str, int]] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Target:
    """The target of one request.

    Attributes:
        scheme: `https` or `http`.
        host: The name for `Host` and TLS: ASCII, lower case; an IPv6 address without brackets.
        path: With the query, percent-encoded, at least "/".
        addresses: Its resolved addresses, all allowed; at least one.
    """

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def origin(self) -> tuple[str, str, int]:
        """Return the origin: credentials are forwarded only within it."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Return the `Host` header; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def policy_of(settings: Settings) -> EgressPolicy:
    """Build the policy from the settings.

    Raises:
        ConfigurationBroken: AILYDIAN_EGRESS_ALLOW has an entry that is not `address:port`.
    """
    allow = set()
    for entry in filter(None, (part.strip() for part in settings.egress_allow.split(","))):
        host, _, port = entry.rpartition(":")
        try:
            allow.add((str(ip_address(host.strip("[]"))), int(port)))
        except ValueError:
            raise ConfigurationBroken(
                f"AILYDIAN_EGRESS_ALLOW: invalid entry {entry!r}; use pairs such as 127.0.0.1:8080."
            ) from None
    return EgressPolicy(http=settings.egress_http, allow=frozenset(allow))


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Resolve a name to all its addresses; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def target(url: str, policy: EgressPolicy, resolve: Resolver = system_resolver) -> Target:
    """Parse and resolve a URL, and check that it is allowed.

    Args:
        url: An absolute URL, as entered by a user.
        policy: What is allowed beyond https to public addresses.
        resolve: Returns the addresses of a host name and port; called at most once.

    Raises:
        AddressRefused: Not allowed; the message has the host and the rule only.
        AddressUnreachable: The host is not found.
    """
    scheme, host, port, path = _read(url)
    literal = _literal(host)
    addresses = (literal,) if literal else _resolved(host, port, resolve)
    _check(scheme, host, port, addresses, policy)
    return Target(scheme, host, port, path, addresses)


def check_text(url: str, policy: EgressPolicy) -> None:
    """Check what a URL says by itself: no name is resolved; a fetch checks it whole.

    Raises:
        AddressRefused: It is invalid, has a user or a password, or its address is not allowed.
    """
    scheme, host, port, _ = _read(url)
    if literal := _literal(host):
        _check(scheme, host, port, (literal,), policy)
    elif scheme == "http" and not policy.http and not policy.allow:
        raise _no_http(host)


def redirected(at: Target, location: str) -> str:
    """Return the absolute URL of a redirect; it is checked like any other afterwards."""
    if _BAD.search(location) or len(location) > URL_CHARS_MAX:
        raise AddressRefused(f"{at.host} redirects to an invalid URL.")
    try:
        return urljoin(f"{at.scheme}://{at.authority}{at.path}", location)
    except ValueError:
        raise AddressRefused(f"{at.host} redirects to an invalid URL.") from None


def _check(
    scheme: str, host: str, port: int, addresses: Sequence[str], policy: EgressPolicy
) -> None:
    """Check resolved addresses against the rules, unless all of them are exempt."""
    exempt = all((_plain(address), port) in policy.allow for address in addresses)
    if not exempt:
        if scheme == "http" and not policy.http:
            raise _no_http(host)
        if port != _PORTS[scheme]:
            raise AddressRefused(f"{host}: port {port} is not allowed; use 443 or 80.")
        if not all(is_public(address) for address in addresses):
            raise AddressRefused(f"{host} resolves to an address that is not public.")


def _no_http(host: str) -> AddressRefused:
    return AddressRefused(f"{host}: http is not allowed; use https or set AILYDIAN_EGRESS_HTTP.")


def _read(url: str) -> tuple[str, str, int, str]:
    """Parse a URL strictly; ambiguous ones are rejected."""
    if len(url) > URL_CHARS_MAX:
        raise AddressRefused(
            f"The URL must be at most {URL_CHARS_MAX} characters (got {len(url)})."
        )
    if _BAD.search(url):
        raise AddressRefused("The URL must not have spaces, backslashes or control characters.")
    whole = _URL.match(url)
    if whole is None:
        raise AddressRefused("The URL must begin with https:// and a host.")
    scheme, authority, rest = whole[1].lower(), whole[2], whole[3]
    if scheme not in _PORTS:
        raise AddressRefused(f"Unsupported URL scheme {scheme!r}; use https.")
    if "@" in authority or "%" in authority:
        raise AddressRefused(
            "The URL must not have a user, a password or an escape before its path."
        )
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise AddressRefused("The URL has no host, or its port is not a number.")
    port = int(parts[2]) if parts[2] else _PORTS[scheme]
    path = quote(rest if rest.startswith("/") else f"/{rest}", safe=_SAFE)
    return scheme, _host(parts[1]), port, path


def _host(written: str) -> str:
    """Normalize the host as it is resolved, sent and shown."""
    if written.startswith("["):
        try:
            return IPv6Address(written[1:-1]).compressed
        except ValueError:
            raise AddressRefused("The URL has brackets without an IPv6 address.") from None
    if len(written) > _HOST_CHARS_MAX:
        raise AddressRefused("The host must be at most 253 characters.")
    try:
        # Full-width digits and dots become plain ones, so the checks see what a resolver would.
        name = written.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise AddressRefused("The host cannot be converted to ASCII (IDNA).") from None
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused("Invalid host: use letters, digits, hyphens and dots.")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            # 127.1, 0x7f.1, 017700000001, 2130706433: a C library would parse these as addresses.
            raise AddressRefused("The host is a number but not a plain IPv4 address.") from None
    return name


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _resolved(host: str, port: int, resolve: Resolver) -> tuple[str, ...]:
    try:
        addresses = tuple(resolve(host, port))
    except (OSError, UnicodeError):
        raise AddressUnreachable(f"{host}: host not found.") from None
    if not addresses:
        raise AddressUnreachable(f"{host}: host has no address.")
    if len(addresses) > ADDRESSES_MAX:
        raise AddressRefused(f"{host} must have at most {ADDRESSES_MAX} addresses.")
    return addresses


def _plain(address: str) -> str:
    """Format an address as in the policy's list."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
