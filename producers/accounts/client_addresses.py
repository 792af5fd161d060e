"""Where a request comes from: the connection's address, or what trusted proxies say of it.

A proxy appends the address that it was asked from. So the list is read from its end: each address
that is a trusted proxy's is believed about the one before it, and the first other one is the
client's. What stands further to the front the client may have written itself.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from producers.accounts.request_rules import Address, Network, NetworkRefused, is_within, network
from shared.errors import ConfigurationBroken
from shared.settings import Settings

HOPS_MAX: Final = 50
ProxyHeader = Literal["x-forwarded-for", "forwarded"]


@dataclass(frozen=True, slots=True)
class Proxies:
    """Who is believed, and the one header that they set: another may come from the client."""

    trusted: Sequence[Network] = field(default_factory=tuple)
    header: ProxyHeader = "x-forwarded-for"


def proxies(settings: Settings) -> Proxies:
    """Return the trusted proxies that the settings name.

    Raises:
        ConfigurationBroken: One is not a network.
    """
    named = [one for one in settings.trusted_proxies.replace(",", " ").split() if one]
    try:
        return Proxies(tuple(map(network, named)), settings.proxy_header)
    except NetworkRefused as error:
        raise ConfigurationBroken(f"AILYDIAN_TRUSTED_PROXIES: {error}") from None


def client_address(peer: str, lines: Sequence[str], known: Proxies) -> Address | None:
    """Return the address of the client.

    Args:
        peer: Of the connection.
        lines: The values of the proxies' header, in their order.
        known: The trusted proxies.

    Returns:
        None where it is not an address, such as of a Unix socket or of a proxy that hides it.
    """
    current = read(peer)
    if not lines or not is_within(current, known.trusted):
        return current
    for text in _from_the_end(lines, known.header):
        current = read(text)
        if not is_within(current, known.trusted):
            return current
    return current


def read(text: str) -> Address | None:
    """Read an address as servers and proxies write it: with brackets, port, zone or mapped."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _from_the_end(lines: Sequence[str], header: ProxyHeader) -> Iterator[str]:
    elements = ",".join(lines).split(",")
    for element in elements[: -HOPS_MAX - 1 : -1]:
        if header == "x-forwarded-for":
            yield element
            continue
        pairs = (pair.partition("=") for pair in element.split(";"))
        yield next((value for name, _, value in pairs if name.strip().lower() == "for"), "")
