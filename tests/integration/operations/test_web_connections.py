"""Clients of `ailydian web` that send slowly, or are many: the others are answered all the same."""

import contextlib
import socket
import time
from contextlib import ExitStack

import pytest
from fastapi import FastAPI
from fastapi.responses import Response

from producers.web.connections import HEAD_BYTES_MAX, REQUEST_S, Connections
from producers.web.server import serve
from tests.support.http_api import serving
from tests.support.patience import patience, until

CONNECTIONS_MAX = 64
OK = b"HTTP/1.1 200"
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-"


@pytest.fixture
def port(pool, redis_url):
    with serving(redis_url, connections_max=CONNECTIONS_MAX) as api:
        yield api.port


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

    assert all(answer.startswith(OK) for answer in answered)


def test_no_more_connections_than_the_maximum_stay_open(port):
    clients = [_connect(port) for _ in range(CONNECTIONS_MAX + 30)]
    for client in clients:
        client.sendall(HALF)
    assert _ask(port).startswith(OK)
    closed = []
    for client in clients:
        client.settimeout(0.01)
        closed.append(_ended(client))
        client.close()

    assert closed.count(True) >= 30
    assert all(closed[:30])  # those that came first


def test_headers_without_an_end_are_refused(port):
    with _connect(port) as client:
        answer = b""
        with contextlib.suppress(ConnectionError):
            client.sendall(HALF + b"A" * (2 * HEAD_BYTES_MAX))
        with contextlib.suppress(ConnectionError):
            answer = client.recv(100)

    assert answer == b"" or b" 431 " in answer  # cut off while it sent, or told


def test_a_body_that_drips_is_cut_off(port):
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    began = time.monotonic()
    with _connect(port) as client:
        client.sendall(head)
        client.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            while not _closed(client) and time.monotonic() - began < 10 * REQUEST_S:
                client.sendall(b"x")
    took = time.monotonic() - began

    assert took < REQUEST_S + patience(5)


def test_a_reader_that_takes_nothing_is_dropped():
    app, reader_s = FastAPI(), 1.0
    app.add_api_route("/large", lambda: Response(b"x" * 50_000_000))
    server = serve(app, host="127.0.0.1", port=0, connections=Connections(reader_s=reader_s))
    try:
        with _connect(server.port) as client:
            began = time.monotonic()
            client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: server.connections == 1, 30)
            until(lambda: server.connections == 0, 30)
            took_s = time.monotonic() - began
    finally:
        server.stop()

    assert took_s > reader_s


def test_who_sends_requests_without_reading_answers_is_cut_off(port):
    with _connect(port) as client, pytest.raises(ConnectionError):
        _ask_for_ever(client)


def _ask_for_ever(client: socket.socket) -> None:
    while True:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")


def _closed(client: socket.socket) -> bool:
    try:
        return client.recv(1_000) == b""
    except TimeoutError:
        return False
