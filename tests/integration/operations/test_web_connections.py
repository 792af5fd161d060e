"""Clients of `ailydian web` that send slowly, or are many: the others are answered all the same."""

import contextlib
import socket
import time
from contextlib import ExitStack

import pytest

from producers.web.server import CONNECTIONS_MAX, REQUEST_S, Web, serve
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from tests.support import factories
from tests.support.patience import patience

HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-"


@pytest.fixture
def port(redis_url):
    with wakeups.connect(redis_url) as client:
        web = Web(client, Wire("ailydian", factories.KEY))
        server, thread = serve(web, host="127.0.0.1", port=0)
        yield server.server_address[1]
        server.shutdown()
        thread.join()
        server.server_close()
        web.close()


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
