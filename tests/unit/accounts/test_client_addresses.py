"""Where a request comes from: nobody but a trusted proxy is believed about it."""

import ipaddress

import pytest

from producers.accounts.client_addresses import Proxies, client_address, proxies
from producers.accounts.request_rules import NetworkRefused, is_within, network
from shared.errors import ConfigurationBroken
from shared.settings import Settings

NETWORKS = (network("10.0.0.0/8"), network("2001:db8::/32"))
BEHIND = Proxies(NETWORKS)
FORWARDED = Proxies(NETWORKS, "forwarded")


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9", "1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2a00::1]:5678"], "2a00::1"),
        ("2001:db8::1", ["2a00::1"], "2a00::1"),
        ("10.0.0.1", ["1.2.3.4, unknown"], None),
        ("10.0.0.1", ["1.2.3.4, "], None),
        ("10.0.0.1", ["1.2.3.4," + "10.0.0.2," * 60 + "10.0.0.2"], "10.0.0.2"),
        ("testclient", ["1.2.3.4"], None),
    ],
)
def test_the_last_address_that_is_no_proxy_is_the_clients(peer, lines, address):
    found = client_address(peer, lines, BEHIND)
    assert found == (address and ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("for=1.2.3.4", "1.2.3.4"),
        ('for=9.9.9.9, for="[2a00::1]:47";proto=https;by=10.0.0.1', "2a00::1"),
        ("proto=http;For=1.2.3.4, For=10.0.0.2", "1.2.3.4"),
        ("for=1.2.3.4, for=_hidden", None),
        ("for=1.2.3.4, proto=http", None),
    ],
)
def test_the_standard_header_is_read_where_it_is_named(line, address):
    found = client_address("10.0.0.1", [line], FORWARDED)
    assert found == (address and ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("text", "address", "within"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "10.1.2.3", False),
        ("1.2.3.4", "1.2.3.4", True),
    ],
)
def test_networks_hold_addresses_of_their_kind(text, address, within):
    assert is_within(ipaddress.ip_address(address), [network(text)]) is within


def test_an_unknown_address_is_in_no_network():
    assert not is_within(None, [network("0.0.0.0/0"), network("::/0")])


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/33", "example.org", "::1/0", "1"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(NetworkRefused, match="invalid network"):
        network(text)


def test_the_settings_name_the_proxies():
    found = proxies(Settings(trusted_proxies="10.0.0.0/8, ::1", proxy_header="forwarded"))
    assert list(map(str, found.trusted)) == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_TRUSTED_PROXIES: invalid network"):
        proxies(Settings(trusted_proxies="proxy"))
