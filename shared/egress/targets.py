"""Where a fetch may go: a URL read by strict rules of our own, its name resolved once, by us.

What two parsers could read in two ways is refused rather than guessed at.
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
    """The other side is not found, does not answer, or hangs up."""

    code = "address_unreachable"


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What is allowed beyond https to public addresses.

    Attributes:
        http: Plain http, to port 80.
        allow: Address and port of what no rule binds, such as a server of one's own.
    """

    http: bool = False
    allow: frozenset[tuple[str, int]] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Target:
    """Where one request goes.

    Attributes:
        scheme: `https` or `http`.
        host: The name as `Host` and TLS say it: ASCII, lower case; an IPv6 address without
            brackets.
        path: With the query, percent-encoded, at least "/".
        addresses: What the name stands for, each allowed; at least one.
    """

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must stay the same for credentials to travel on."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """`Host`: the port is left out where the scheme implies it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def policy_of(settings: Settings) -> EgressPolicy:
    """The policy that the settings describe.

    Raises:
        ConfigurationBroken: AILYDIAN_EGRESS_ALLOW holds something that is not `address:port`.
    """
    allow = set()
    for entry in filter(None, (part.strip() for part in settings.egress_allow.split(","))):
        host, _, port = entry.rpartition(":")
        try:
            allow.add((str(ip_address(host.strip("[]"))), int(port)))
        except ValueError:
            raise ConfigurationBroken(
                f"AILYDIAN_EGRESS_ALLOW holds {entry!r}; it takes pairs such as 127.0.0.1:8080."
            ) from None
    return EgressPolicy(http=settings.egress_http, allow=frozenset(allow))


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Every address of a name, as this machine resolves it; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def target(url: str, policy: EgressPolicy, resolve: Resolver = system_resolver) -> Target:
    """Decide where a URL leads, and that it may be gone there.

    Args:
        url: An absolute address, as a person wrote it.
        policy: What is allowed beyond the rule.
        resolve: From a name and a port, the addresses; asked at most once.

    Raises:
        AddressRefused: It may not; the message names the host and the rule, nothing else.
        AddressUnreachable: The name is not found.
    """
    scheme, host, port, path = _read(url)
    literal = _literal(host)
    addresses = (literal,) if literal else _resolved(host, port, resolve)
    exempt = all((_plain(address), port) in policy.allow for address in addresses)
    if not exempt:
        if scheme == "http" and not policy.http:
            raise AddressRefused(
                f"{host}: only https is fetched; AILYDIAN_EGRESS_HTTP allows http."
            )
        if port != _PORTS[scheme]:
            raise AddressRefused(f"{host}: port {port} is not fetched from, only 443 and 80 are.")
        if not all(is_public(address) for address in addresses):
            raise AddressRefused(f"{host} leads to an address that is not public.")
    return Target(scheme, host, port, path, addresses)


def redirected(at: Target, location: str) -> str:
    """The absolute URL that a redirect names; it is judged like any other afterwards."""
    if _BAD.search(location) or len(location) > URL_CHARS_MAX:
        raise AddressRefused(f"{at.host} redirects to something that is no address.")
    try:
        return urljoin(f"{at.scheme}://{at.authority}{at.path}", location)
    except ValueError:
        raise AddressRefused(f"{at.host} redirects to something that is no address.") from None


def _read(url: str) -> tuple[str, str, int, str]:
    """Take a URL apart, strictly: what two parsers could read in two ways is refused."""
    if len(url) > URL_CHARS_MAX:
        raise AddressRefused(f"The address has {len(url)} characters; {URL_CHARS_MAX} are allowed.")
    if _BAD.search(url):
        raise AddressRefused("The address holds a space, a backslash or a control character.")
    whole = _URL.match(url)
    if whole is None:
        raise AddressRefused("The address must begin with https:// and a host.")
    scheme, authority, rest = whole[1].lower(), whole[2], whole[3]
    if scheme not in _PORTS:
        raise AddressRefused(f"{scheme} is no scheme that is fetched; https is.")
    if "@" in authority or "%" in authority:
        raise AddressRefused("The address holds a user, a password or an escape before its path.")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise AddressRefused("The address names no host, or its port is no number.")
    port = int(parts[2]) if parts[2] else _PORTS[scheme]
    path = quote(rest if rest.startswith("/") else f"/{rest}", safe=_SAFE)
    return scheme, _host(parts[1]), port, path


def _host(written: str) -> str:
    """The host in the form in which it is resolved, sent and shown."""
    if written.startswith("["):
        try:
            return IPv6Address(written[1:-1]).compressed
        except ValueError:
            raise AddressRefused("The address holds brackets without an IPv6 address.") from None
    if len(written) > _HOST_CHARS_MAX:
        raise AddressRefused("The host has more than 253 characters.")
    try:
        # Wide digits and dots become plain ones here, so what follows sees what a resolver would.
        name = written.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise AddressRefused("The host is no name that can be written in ASCII.") from None
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused("The host is no name: letters, digits, hyphens and dots make one.")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            # 127.1, 0x7f.1, 017700000001, 2130706433: a C library would make addresses of these.
            raise AddressRefused("The host is a number that is no plain IPv4 address.") from None
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
        raise AddressUnreachable(f"{host} is not found.") from None
    if not addresses:
        raise AddressUnreachable(f"{host} has no address.")
    if len(addresses) > ADDRESSES_MAX:
        raise AddressRefused(f"{host} has more than {ADDRESSES_MAX} addresses.")
    return addresses


def _plain(address: str) -> str:
    """An address as the policy's list spells it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
