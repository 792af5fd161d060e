"""Where a fetch may never go, however its address is spelled."""

import sys
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.egress.addresses import is_public
from shared.egress.fetching import FetchRequest, fetch
from shared.egress.targets import EgressPolicy, target
from shared.errors import AddressRefused
from tests.support.stub_site import StubSite

PUBLIC = "93.184.216.34"

# Every spelling of what must not be reached, as people have smuggled it past other filters.
SPELLINGS = """
https://127.0.0.1/ https://127.0.0.1:443/ https://127.1/ https://127.0.1/ https://2130706433/
https://0x7f000001/ https://0x7f.0.0.1/ https://0177.0.0.1/ https://017700000001/ https://0x7f.1/
https://0/ https://0.0.0.0/ https://00.0.0.0/ https://127.0.0.1./ https://127.255.255.254/
https://0x/ https://127.0.0.0x1/ https://10.0.0.5/ https://172.16.0.1/ https://172.31.255.255/
https://192.168.1.1/ https://100.64.0.1/ https://100.100.100.200/ https://169.254.169.254/
https://169.254.169.254/latest/meta-data/ https://2852039166/ https://0xa9fea9fe/
https://168.63.129.16/ https://192.0.0.8/ https://192.0.2.1/ https://198.18.0.1/
https://198.51.100.1/ https://203.0.113.1/ https://224.0.0.1/ https://240.0.0.1/
https://255.255.255.255/ https://192.88.99.1/ https://[::1]/ https://[::]/ https://[::]:443/
https://[0:0:0:0:0:0:0:1]/ https://[::ffff:127.0.0.1]/ https://[::ffff:7f00:1]/
https://[0:0:0:0:0:ffff:169.254.169.254]/ https://[::127.0.0.1]/ https://[2002:7f00:1::]/
https://[2002:a9fe:a9fe::1]/ https://[64:ff9b::127.0.0.1]/ https://[64:ff9b::a9fe:a9fe]/
https://[64:ff9b:1::1]/ https://[2001:0:7f00:1::]/ https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/
https://[fe80::1]/ https://[fe80::1%25eth0]/ https://[fe80::1%eth0]/ https://[fc00::1]/
https://[fd00:ec2::254]/ https://[fec0::1]/ https://[ff02::1]/ https://[2001:db8::1]/
https://[3fff::1]/ https://[100::1]/ https://[5f00::1]/ https://[v1.a]/ https://[127.0.0.1]/
https://user@93.184.216.34/ https://user:secret@93.184.216.34/ https://93.184.216.34@127.0.0.1/
https://127.0.0.1%2f@93.184.216.34/ https://93.184.216.34%2f.127.0.0.1/
https://93.184.216.34\\@127.0.0.1/ https://93.184.216.34:80\\@127.0.0.1/
https://93.184.216.34:22/ https://93.184.216.34:6379/ https://93.184.216.34:65536/
https://93.184.216.34:0/ https://93.184.216.34:443:80/ https://93.184.216.34:٤٤٣/
https://93.184.216.34:-1/ https://93.184.216.34:+443/ http://93.184.216.34/ http://93.184.216.34:443/
https://localhost/ https://LOCALHOST/ https://localhost./ https://app.localhost/
https://private.test/ https://half.test/ https://mapped.test/ https://nat64.test/ https://scoped.test/
https://nonsense.test/ https://metadata.test/ https://①②⑦.⓪.⓪.①/ https://127。0。0。1/
https://１２７.0.0.1/ https://l%6fcalhost/ https://exa_mple..test/ https://-a.test/ https:///etc/passwd
https:/127.0.0.1/ https:127.0.0.1 //127.0.0.1/ 127.0.0.1 / file:///etc/passwd file://localhost/x
gopher://127.0.0.1:6379/_FLUSHALL ftp://127.0.0.1/ dict://127.0.0.1:11211/stats ldap://127.0.0.1/
data:text/plain,x javascript:alert(1) jar:https://x!/ ws://127.0.0.1/ unix:///var/run/docker.sock
https://?@127.0.0.1/ https://#@127.0.0.1/ https:// https://. https://..
"""
FORBIDDEN = [
    *SPELLINGS.split(),
    "",
    " https://127.0.0.1/",
    "https://127.0.0.1 /",
    "https://exa\tmple.test/",
    "https://exa\nmple.test/",
    "https://public.test/\r\nHost: 127.0.0.1",
    "https://public.test/\0",
    "https://public\u00a0.test/",
    "https://public.test/\ud800",
    "https://" + "a" * 64 + ".test/",
    "https://" + "a." * 200 + "test/",
    "https://public.test/" + "a" * 5_000,
]
ADDRESSES = {
    "public.test": [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946"],
    "private.test": ["10.1.2.3"],
    "half.test": [PUBLIC, "127.0.0.1"],
    "mapped.test": ["::ffff:10.0.0.1"],
    "nat64.test": ["64:ff9b::c0a8:101"],
    "scoped.test": ["fe80::1%eth0"],
    "nonsense.test": ["not an address"],
    "metadata.test": ["169.254.169.254"],
}


def resolve(host, port):
    return ADDRESSES.get(host, ["127.0.0.1"])


@pytest.fixture(scope="module")
def connects():
    """Every connect of this process while a test looks: Python itself tells of each."""
    seen, watching = [], []

    def hook(event, arguments):
        if watching and event == "socket.connect":
            seen.append(arguments[1])

    sys.addaudithook(hook)  # for ever, so it is silent once nobody watches
    watching.append(True)
    yield seen
    watching.clear()


@pytest.mark.parametrize("url", FORBIDDEN, ids=lambda url: ascii(url)[:60])
def test_a_forbidden_address_is_refused_and_nothing_is_connected(url, connects):
    before = len(connects)

    with pytest.raises(AddressRefused):
        fetch(FetchRequest("GET", url), resolve=resolve)

    assert connects[before:] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "a.b"])
def test_a_trap_on_this_machine_sees_no_connection(host):
    with StubSite() as trap:
        with pytest.raises(AddressRefused):
            fetch(FetchRequest("GET", f"http://{host}:{trap.port}/"), resolve=resolve)

        assert trap.connections == 0


def test_even_with_plain_http_and_a_port_that_is_fine_an_inner_address_is_not():
    for address in ("127.0.0.1", "[::1]", "private.test", "half.test"):
        with pytest.raises(AddressRefused, match="not public"):
            target(f"http://{address}/", EgressPolicy(http=True), resolve)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("1.1.1.1", True),
        ("9.255.255.255", True),
        ("11.0.0.0", True),
        ("100.63.255.255", True),
        ("100.128.0.0", True),
        ("172.15.255.255", True),
        ("172.32.0.0", True),
        ("223.255.255.255", True),
        ("2606:4700::1111", True),
        ("2a00:1450::1", True),
        ("::ffff:1.1.1.1", True),
        ("64:ff9b::1.1.1.1", True),
        ("172.16.0.0", False),
        ("64:ff9b:1::1.1.1.1", False),
        ("2002:101:101::1", False),
        ("2001::1", False),
        ("2001:1ff::1", False),
        ("4000::1", False),
        ("1fff::1", False),
        ("fe80::1%1", False),
        ("2606:4700::1111%1", False),
        ("", False),
    ],
)
def test_the_list_of_addresses_has_these_borders(address, public):
    assert is_public(address) is public


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_inside_of_ipv6_as_it_is_outside(address):
    assert (
        is_public(str(address))
        == is_public(f"::ffff:{address}")
        == is_public(f"64:ff9b::{address}")
    )


@given(st.ip_addresses())
def test_no_address_is_public_that_python_calls_private_or_loopback(address):
    mapped = getattr(address, "ipv4_mapped", None)
    if address.is_private or address.is_loopback or address.is_link_local:
        assert not is_public(str(address)) or (mapped and is_public(str(mapped)))


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_fail_in_another_way(text):
    try:
        found = target(f"https://{text}", EgressPolicy(), resolve)
    except AddressRefused:
        return

    assert all(is_public(address) for address in found.addresses)
    assert found.path.startswith("/")
    assert found.path.isascii()


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "017700000001", "1.2.3", "0x"]
)
def test_a_number_that_a_resolver_would_take_for_an_address_is_not_handed_to_one(host):
    asked = []

    with pytest.raises(AddressRefused, match="a number"):
        target(f"https://{host}/", EgressPolicy(), lambda *name: asked.append(name) or [PUBLIC])

    assert asked == []


def test_a_name_with_a_dot_at_its_end_is_the_same_name():
    assert target("https://public.test./", EgressPolicy(), resolve).host == "public.test"


def test_a_name_with_addresses_without_end_is_refused():
    with pytest.raises(AddressRefused, match="32 addresses"):
        target("https://many.test/", EgressPolicy(), lambda *_: [PUBLIC] * 33)


def test_a_name_is_resolved_once_and_connected_to_by_its_address():
    asked = []

    def resolver(*name):
        asked.append(name)
        return [PUBLIC]

    found = target(
        "https://Public.TEST:443/ä b?q=ş#part".replace(" ", "%20"), EgressPolicy(), resolver
    )

    assert asked == [("public.test", 443)]
    assert found.addresses == (PUBLIC,)
    assert (found.host, found.authority) == ("public.test", "public.test")
    assert found.path == "/%C3%A4%20b?q=%C5%9F"


def test_a_name_in_other_letters_is_resolved_in_ascii():
    found = target("https://bücher.test/", EgressPolicy(), lambda *_: [PUBLIC])

    assert found.host == "xn--bcher-kva.test"


def test_the_forbidden_addresses_are_more_than_the_73_that_others_test():
    assert len(set(FORBIDDEN)) >= 100
    assert ip_address(PUBLIC).is_global
