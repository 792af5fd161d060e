"""Addresses that a fetch may connect to: public ones, by our own list.

Python's `ipaddress.is_global` is not used: 3.11.7 calls 64:ff9b:1::1, 192.0.0.8 and 2002:7f00:1::
global (CVE-2024-4032 and more), so its result depends on the Python version.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

# Source: IANA's special-purpose address registries of IPv4 and IPv6, multicast and reserved space.
_DENIED_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; metadata of some clouds
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # public range, but the host of a virtual machine on Azure
            "169.254.0.0/16",  # link-local; metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
# Of IPv6 only global unicast is allowed, without ranges that embed or represent other addresses.
_UNICAST_6: Final = IPv6Network("2000::/3")
_DENIED_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address inside, by relays that are gone
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")  # DNS64 makes these of any IPv4 address


def is_public(text: str) -> bool:
    """Whether an address is public; False for an invalid address."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address not in _MAPPED and address not in _NAT64:
            denied = any(address in network for network in _DENIED_6)
            return address in _UNICAST_6 and not denied
        address = IPv4Address(int(address) & 0xFFFF_FFFF)
    return not any(address in network for network in _DENIED_4)
