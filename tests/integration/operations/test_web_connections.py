"""Clients of `ailydian web` that send or read slowly, or are many: the others are answered."""

import contextlib
import json
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from producers.web.server import CONNECTIONS_MAX, MAKERS_MAX, PAGE_S, REQUEST_S, Web, serve
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from tests.support import factories
from tests.support.patience import patience, until

HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-"


PAGE = b"GET %s HTTP/1.0\r\n\r\n"
BIG = 32_000_000  # more than the buffers of two sockets hold


class Clock:
    """The server's time, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def released():
    """Until it is set, the page /slow is not made."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def server(redis_url, clock, released):
    """A server by the test's clock, with a page of many bytes and one that waits."""

    def slow():
        released.wait(patience(60))
        return 200, "text/plain", b"made"

    with _serving(redis_url, clock) as found:
        found.pages |= {"/big": lambda: (200, "text/plain", bytes(BIG)), "/slow": slow}
        yield found


@contextlib.contextmanager
def _serving(redis_url, clock):
    with wakeups.connect(redis_url) as client:
        web = Web(client, Wire("ailydian", factories.KEY))
        server, thread = serve(web, host="127.0.0.1", port=0, clock=clock)
        yield server
        server.shutdown()
        thread.join()
        server.server_close()
        web.close()


@pytest.fixture
def port(redis_url):
    with _serving(redis_url, time.monotonic) as server:
        yield server.server_address[1]


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=patience(10))


def _ask(port: int) -> bytes:
    with _connect(port) as client:
        client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        return client.recv(100)


def _ended(client: socket.socket) -> bool:
    """Whether the server has ended a connection; it is given as long as its timeout is."""
    try:
        client.recv(1_000)
        return True  # nothing, or the answer to a request that is no whole one
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_drip_of_bytes_is_cut_off_when_its_time_is_over(port):
    began = time.monotonic()
    with _connect(port) as client:
        client.sendall(HALF)
        client.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            while not _ended(client) and time.monotonic() - began < 10 * REQUEST_S:
                client.sendall(b"X")
    took = time.monotonic() - began

    assert REQUEST_S / 2 < took < REQUEST_S + patience(5)


def test_a_flood_of_half_requests_holds_up_nobody(port):
    with ExitStack() as stack:
        for _ in range(3 * CONNECTIONS_MAX):
            stack.enter_context(_connect(port)).sendall(HALF)
        answered = [_ask(port) for _ in range(20)]

    assert all(answer.startswith(b"HTTP/1.0 200") for answer in answered)


def test_no_more_connections_than_the_maximum_stay_open(port):
    clients = [_connect(port) for _ in range(CONNECTIONS_MAX + 30)]
    for client in clients:
        client.sendall(HALF)
    assert _ask(port).startswith(b"HTTP/1.0 200")
    closed = []
    for client in clients:
        client.settimeout(0.01)
        closed.append(_ended(client))
        client.close()

    assert closed.count(True) >= 30
    assert all(closed[:30])  # those that came first


# ---- by the server's clock


def _open_page(server, path: bytes) -> socket.socket:
    """Ask for a page, through a small window, and do not read it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(patience(20))
    client.connect(server.server_address)
    client.sendall(PAGE % path)
    return client


def _rest(client: socket.socket) -> int:
    """Read to the end of a connection. Returns how many bytes came."""
    came = 0
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1_000_000):
            came += len(part)
    return came


def _take(client: socket.socket, count: int) -> int:
    """Read so many bytes, in whatever packets they come. Returns how many came."""
    came = 0
    while came < count and (part := client.recv(count - came)):
        came += len(part)
    return came


def _pass(server, clock, seconds: float) -> None:
    """Let time pass by the server's clock, and let it look once more."""
    clock.now += seconds
    server.service_actions()


def _are_making(server, path: str, count: int) -> None:
    until(lambda: server._makers[path] == count, 20)


def test_a_slow_reader_is_cut_off_when_the_time_of_a_page_is_over_and_not_before(server, clock):
    with _open_page(server, b"/big") as client:
        assert client.recv(15) == b"HTTP/1.0 200 OK"
        _pass(server, clock, PAGE_S)
        assert _take(client, 1_000) == 1_000
        assert len(server._open) == 1

        _pass(server, clock, 0.001)

        assert _rest(client) < BIG // 2
    until(lambda: not server._open, 20)


def test_a_slow_sender_is_cut_off_when_the_time_of_a_request_is_over_and_not_before(server, clock):
    with _connect(server.server_address[1]) as late, _connect(server.server_address[1]) as client:
        for one in (late, client):
            one.sendall(HALF)
        until(lambda: len(server._open) == 2, 20)
        _pass(server, clock, REQUEST_S)
        client.sendall(b"A: b\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.0 200 OK"

        _pass(server, clock, 0.001)

        assert _rest(late) == 0


def test_a_page_that_takes_too_long_ends_its_connection_and_no_other(server, clock):
    with _open_page(server, b"/slow") as client:
        _are_making(server, "/slow", 1)
        _pass(server, clock, PAGE_S)
        assert len(server._open) == 1
        assert _ask(server.server_address[1]).startswith(b"HTTP/1.0 200")

        _pass(server, clock, 0.001)

        assert _rest(client) == 0


def test_a_page_that_hangs_holds_no_more_threads_than_it_may(server, clock, released):
    with ExitStack() as stack:
        for _ in range(MAKERS_MAX):
            stack.enter_context(_open_page(server, b"/slow"))
        _are_making(server, "/slow", MAKERS_MAX)
        _pass(server, clock, PAGE_S + 1)  # their clients are gone, their threads are not
        answers = []
        for _ in range(3):
            with _open_page(server, b"/slow") as client:
                answers.append(client.makefile("rb").read())

        assert all(answer.startswith(b"HTTP/1.0 503") for answer in answers)
        assert json.loads(answers[0].partition(b"\r\n\r\n")[2])["error"] == "busy"
        assert _ask(server.server_address[1]).startswith(b"HTTP/1.0 200")
        released.set()
    _are_making(server, "/slow", 0)
    with _open_page(server, b"/slow") as client:
        assert client.makefile("rb").read().endswith(b"made")


def test_as_many_slow_readers_as_may_connect_keep_nobody_out(server):
    with ExitStack() as stack:
        slow = [stack.enter_context(_open_page(server, b"/big")) for _ in range(CONNECTIONS_MAX)]
        for client in slow:
            assert client.recv(15) == b"HTTP/1.0 200 OK"
        until(lambda: server._makers["/big"] == 0, 20)

        answers = [_ask(server.server_address[1]) for _ in range(3)]

        assert all(answer.startswith(b"HTTP/1.0 200") for answer in answers)
        assert _rest(slow[0]) < BIG // 2
        assert (
            len(slow[-1].recv(1_000, socket.MSG_WAITALL)) == 1_000
        )  # those that came last still have theirs


def test_those_that_wait_for_us_are_not_closed_for_one_that_comes_later(server, released):
    pages = [f"/slow{number}" for number in range(CONNECTIONS_MAX // MAKERS_MAX)]
    server.pages |= dict.fromkeys(pages, server.pages["/slow"])
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(_open_page(server, page.encode()))
            for page in pages
            for _ in range(MAKERS_MAX)
        ]
        for page in pages:
            _are_making(server, page, MAKERS_MAX)
        with _connect(server.server_address[1]) as late:
            assert _ended(late)
        released.set()

        assert all(client.makefile("rb").read().endswith(b"made") for client in waiting)
