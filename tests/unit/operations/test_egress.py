"""Fetching what somebody named: redirects, limits, and what is sent and shown."""

import time

import pytest

from shared.egress import fetching
from shared.egress.fetching import FetchLimits, FetchRequest, ReplyRefused, fetch
from shared.egress.targets import AddressUnreachable, EgressPolicy, policy_of
from shared.errors import AddressRefused, ConfigurationBroken
from shared.settings import read
from tests.support.patience import patience
from tests.support.stub_site import TLS_NAME, TLS_PEM, StubSite, answer

SECRET = "hunter2-canary"


def answering(*answers):
    """A resolver that gives these answers one after the other, and the list of what it gave."""
    given = []

    def resolver(host, port):
        given.append(answers[len(given)])
        return given[-1]

    return resolver, given


def test_a_site_of_ones_own_is_reached_by_its_pair_alone():
    with StubSite(answer(b"{}")) as site:
        policy = policy_of(read({"AILYDIAN_EGRESS_ALLOW": f"127.0.0.1:{site.port}, 10.0.0.1:80"}))

        reply = fetch(FetchRequest("GET", site.url), policy=policy)

        assert (reply.status, reply.body) == (200, b"{}")
        assert f"\r\nHost: 127.0.0.1:{site.port}\r\n" in site.requests[0]
        with pytest.raises(AddressRefused):
            fetch(FetchRequest("GET", f"http://127.0.0.1:{site.port + 1}"), policy=policy)


@pytest.mark.parametrize("entry", ["localhost:80", "127.0.0.1", "127.0.0.1:x", "10.0.0.0/8:80"])
def test_an_exemption_that_is_no_address_and_port_is_a_mistake(entry):
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_EGRESS_ALLOW"):
        policy_of(read({"AILYDIAN_EGRESS_ALLOW": entry}))


@pytest.fixture
def pem(tmp_path, monkeypatch):
    """A file with a certificate and its key; whoever makes a TLS context trusts it alone."""
    path = tmp_path / "site.pem"
    path.write_text(TLS_PEM)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    fetching._tls.cache_clear()
    yield path
    fetching._tls.cache_clear()


def test_host_and_tls_carry_the_name_though_the_address_is_connected_to(pem):
    with StubSite(answer(b"{}"), pem=pem) as site:
        resolver, given = answering([site.address])

        reply = fetch(
            FetchRequest("GET", f"https://{TLS_NAME}:{site.port}/"),
            policy=EgressPolicy(allow=frozenset({site.pair})),
            resolve=resolver,
        )

        assert (reply.status, len(given)) == (200, 1)
        assert f"\r\nHost: {TLS_NAME}:{site.port}\r\n" in site.requests[0]


def test_a_site_with_the_certificate_of_another_name_is_sent_nothing(pem):
    with StubSite(answer(b"{}"), pem=pem) as site:
        policy = EgressPolicy(allow=frozenset({site.pair}))
        for host in ("other.public.test", "127.0.0.1"):
            with pytest.raises(ReplyRefused, match="certificate"):
                fetch(
                    FetchRequest("GET", f"https://{host}:{site.port}/"),
                    policy=policy,
                    resolve=lambda *_: [site.address],
                )

        assert site.requests == []


def test_a_certificate_that_nobody_vouches_for_is_not_believed(pem, monkeypatch, tmp_path):
    nobody = tmp_path / "nobody.pem"
    nobody.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(nobody))
    with StubSite(answer(b"{}"), pem=pem) as site:
        with pytest.raises(ReplyRefused, match="certificate"):
            fetch(
                FetchRequest("GET", f"https://{TLS_NAME}:{site.port}/"),
                policy=EgressPolicy(allow=frozenset({site.pair})),
                resolve=lambda *_: [site.address],
            )

        assert site.requests == []


def test_the_proxies_of_the_environment_are_not_used(monkeypatch):
    with StubSite() as proxy, StubSite(answer(b"{}")) as site:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)

        fetch(FetchRequest("GET", site.url), policy=EgressPolicy(allow=frozenset({site.pair})))

        assert (proxy.connections, site.connections) == (0, 1)


def test_a_second_address_is_tried_where_the_first_does_not_answer():
    with StubSite(answer(b"{}")) as site:
        closed = StubSite(address="127.0.0.2", port=site.port)
        closed._listening.close()
        allow = frozenset({site.pair, ("127.0.0.2", site.port)})

        reply = fetch(
            FetchRequest("GET", f"http://two.test:{site.port}/"),
            policy=EgressPolicy(allow=allow),
            resolve=lambda *_: ["127.0.0.2", "127.0.0.1"],
        )

        assert reply.status == 200


def test_an_exempt_address_does_not_open_the_way_for_another():
    with StubSite(answer(b"{}")) as site:
        with pytest.raises(AddressRefused):
            fetch(
                FetchRequest("GET", f"http://two.test:{site.port}/"),
                policy=EgressPolicy(allow=frozenset({site.pair})),
                resolve=lambda *_: [site.address, "10.0.0.1"],
            )

        assert site.connections == 0


# ---- redirects


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{trap}/",
        "//127.0.0.1:{trap}/",
        "http://2130706433:{trap}/",
        "http://[::ffff:127.0.0.1]:{trap}/",
        "http://user@127.0.0.1:{trap}/",
        "https://localhost/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{trap}/_x",
        "\\\\127.0.0.1:{trap}\\",
        "http://[",
    ],
)
def test_a_redirect_to_an_inner_address_is_not_followed(location):
    with StubSite() as trap:
        to = answer(status=302, Location=location.format(trap=trap.port))
        with StubSite(to) as site, pytest.raises(AddressRefused):
            fetch(FetchRequest("GET", site.url), policy=EgressPolicy(allow=frozenset({site.pair})))

        assert trap.connections == 0


def test_a_name_that_changes_its_address_between_two_hops_is_judged_again():
    resolver, given = answering(["127.0.0.1"], ["127.0.0.2"])
    with (
        StubSite(answer(status=302, Location="/again")) as site,
        StubSite(answer(b"secrets"), address="127.0.0.2", port=site.port) as inner,
    ):
        request = FetchRequest("GET", f"http://rebinds.test:{site.port}/")
        policy = EgressPolicy(allow=frozenset({site.pair}))

        with pytest.raises(AddressRefused, match=r"rebinds\.test"):
            fetch(request, policy=policy, resolve=resolver)

        assert len(given) == 2
        assert inner.connections == 0


def test_three_redirects_are_followed_and_a_fourth_is_not():
    def hops(count):
        return [answer(status=302, Location=f"/{number}") for number in range(count)]

    with StubSite(*hops(3), answer(b"there")) as site:
        reply = fetch(
            FetchRequest("GET", site.url), policy=EgressPolicy(allow=frozenset({site.pair}))
        )
        assert reply.body == b"there"
    with StubSite(*hops(5)) as site:
        with pytest.raises(ReplyRefused, match="too many redirects"):
            fetch(FetchRequest("GET", site.url), policy=EgressPolicy(allow=frozenset({site.pair})))
        assert site.connections == 4


def test_credentials_stay_with_the_site_they_were_given_for():
    with StubSite(answer(b"{}")) as other:
        hops = [answer(status=307, Location="/b"), answer(status=302, Location=other.url)]
        with StubSite(*hops) as site:
            headers = {"Authorization": SECRET, "X-Api-Key": SECRET, "Accept": "text/x"}
            allow = frozenset({site.pair, other.pair})
            fetch(FetchRequest("GET", site.url, headers), policy=EgressPolicy(allow=allow))

            assert all(SECRET in request for request in site.requests)
            assert SECRET not in other.requests[0]
            assert "text/x" in other.requests[0]


def test_a_body_is_sent_again_to_the_same_site_and_to_no_other():
    with StubSite(answer(b"{}")) as other:
        hops = [answer(status=308, Location="/b"), answer(status=307, Location=other.url)]
        with StubSite(*hops) as site:
            policy = EgressPolicy(allow=frozenset({site.pair, other.pair}))
            with pytest.raises(AddressRefused, match="with a body is not forwarded"):
                fetch(FetchRequest("POST", site.url, body=b"the body"), policy=policy)

        assert [request.endswith("the body") for request in site.requests] == [True, True]
        assert other.connections == 0


def test_after_see_other_a_post_becomes_a_get_without_its_body():
    with StubSite(answer(status=303, Location="/b"), answer(b"{}")) as site:
        request = FetchRequest("POST", site.url, {"Content-Type": "text/plain"}, b"the body")
        fetch(request, policy=EgressPolicy(allow=frozenset({site.pair})))

        assert site.requests[1].startswith("GET /b HTTP/1.1\r\n")
        assert "the body" not in site.requests[1]
        assert "text/plain" not in site.requests[1]


# ---- limits


def hang_up_later(head, piece=b"", every_s=0.02):
    """An answer that never ends: a head, then a piece again and again until the client goes."""

    def talk(sock):
        sock.sendall(head)
        while True:
            sock.settimeout(every_s)
            try:
                if not sock.recv(1):
                    return
            except TimeoutError:
                sock.settimeout(10)
                sock.sendall(piece)

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        hang_up_later(b""),
        hang_up_later(b"HTTP/1.1 ", b"2"),
        hang_up_later(b"HTTP/1.1 200 X\r\n", b"X-A: 1\r\n"),
        hang_up_later(b"HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n", b" "),
        hang_up_later(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        hang_up_later(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["stall", "status", "headers", "body", "chunks", "continue"],
)
def test_an_answer_that_trickles_ends_at_the_deadline(talk):
    with StubSite(talk) as site:
        started = time.monotonic()

        with pytest.raises(AddressUnreachable, match="timed out"):
            fetch(
                FetchRequest("GET", site.url),
                FetchLimits(timeout_s=0.3),
                policy=EgressPolicy(allow=frozenset({site.pair})),
            )

        assert time.monotonic() - started < patience(5)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (answer(b"x" * 1_001), "1,000 bytes"),
        (b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n" + b"x" * 5_000, "1,000 bytes"),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + b"x" * 4_095, "1,000 b"),
        (answer(b"x", Content_Encoding="gzip"), "compressed"),
        (answer(b"x", X=("y" * 40_000)), "headers"),
        (b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 200 + b"\r\n", "invalid HTTP"),
        (b"SSH-2.0-OpenSSH\r\n" + b"\r\n" * 9, "invalid HTTP"),
    ],
)
def test_an_answer_that_is_too_much_or_no_http_is_refused(sent, why):
    with StubSite(sent) as site, pytest.raises(ReplyRefused, match=why):
        fetch(
            FetchRequest("GET", site.url),
            FetchLimits(bytes_max=1_000),
            policy=EgressPolicy(allow=frozenset({site.pair})),
        )


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_answer_that_is_cut_off_is_no_answer(sent):
    with StubSite(sent) as site, pytest.raises(AddressUnreachable):
        fetch(FetchRequest("GET", site.url), policy=EgressPolicy(allow=frozenset({site.pair})))


def test_the_largest_body_that_is_allowed_comes_whole():
    with StubSite(answer(b"x" * 1_000)) as site:
        policy = EgressPolicy(allow=frozenset({site.pair}))

        assert (
            len(
                fetch(
                    FetchRequest("GET", site.url), FetchLimits(bytes_max=1_000), policy=policy
                ).body
            )
            == 1_000
        )


# ---- what is sent


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1"},
        {"content-length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"X": "a\r\nHost: b"},
        {"X": "a\0"},
        {"X\r\nHost": "a"},
        {"X Y": "a"},
        {"": "a"},
        {"X": "ş"},
    ],
)
def test_a_header_that_changes_the_request_is_refused(headers):
    with pytest.raises(AddressRefused):
        FetchRequest("GET", "https://public.test/", headers)


def test_errors_and_values_show_neither_paths_nor_headers_nor_bodies():
    with StubSite(answer(SECRET.encode() * 99)) as site:
        request = FetchRequest(
            "POST", f"{site.url}/{SECRET}?key={SECRET}", {"X-Key": SECRET}, SECRET.encode()
        )
        with pytest.raises(ReplyRefused) as caught:
            fetch(
                request, FetchLimits(bytes_max=9), policy=EgressPolicy(allow=frozenset({site.pair}))
            )
        with pytest.raises(AddressRefused) as refused:
            fetch(FetchRequest("GET", f"https://u:{SECRET}@public.test/{SECRET}"))

    assert SECRET not in f"{caught.value} {refused.value}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
