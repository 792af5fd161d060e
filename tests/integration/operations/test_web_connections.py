"""Clients of `ailydian web` that send slowly, or are many: the others are answered all the same."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
from fastapi import FastAPI
from fastapi.responses import Response

from producers.web import problems
from producers.web.connections import HEAD_BYTES_MAX, READER_S, REQUEST_S, Connections
from producers.web.pages import MAKERS_MAX, shown
from producers.web.server import serve
from tests.support.http_api import serving
from tests.support.patience import patience, until

CONNECTIONS_MAX = 64
OK = b"HTTP/1.1 200"
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-"


@pytest.fixture
def port(pool, redis_url):
    with serving(redis_url, connections=Connections(CONNECTIONS_MAX)) as api:
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


def test_headers_that_end_are_refused_if_they_are_too_large(port):
    with _connect(port) as client:
        client.sendall(HALF + b": " + b"A" * HEAD_BYTES_MAX + b"\r\n\r\n")

        assert b" 431 " in client.recv(100)


def test_a_body_that_is_not_http_is_told_so(port):
    head = b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with _connect(port) as client:
        client.sendall(head + b"not a size\r\n")

        assert client.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", "Invalid HTTP request received."),
        (b"GET /health HTTP/1.1\r\n\r\n", "A request needs one header Host."),
        (b"GET /health HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", "A request needs one header Host."),
    ],
)
def test_an_invalid_request_is_told_as_every_problem(port, sent, sentence):
    with _connect(port) as client, client.makefile("rb") as file:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        head, _, body = file.read().partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head.lower() + b"\r\n"
    assert json.loads(body)["detail"] == sentence


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


def test_answers_do_not_wait_for_acknowledgements(port):
    with _connect(port) as client:
        took_s = []
        for _ in range(20):  # headers and body are two packets: held back, 40 ms each
            began = time.monotonic()
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b'"uptimeSeconds"' not in answer:
                answer += client.recv(1_000)
            took_s.append(time.monotonic() - began)

    assert min(took_s[1:]) < 0.03  # as fast as the machine allows, at least once


# ---- by the server's clock


BIG = 32_000_000  # more than the buffers of two sockets hold


class Clock:
    """The server's time, which stands still until a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Looked(Connections):
    """Connections that count how often they are looked at, and know when."""

    looks, looked_at = 0, 0.0

    def look(self) -> None:
        super().look()
        self.looks += 1
        self.looked_at = self.clock()


class Site:
    """A server with a page of many bytes and one that is made when the test says so."""

    def __init__(self, connections_max: int) -> None:
        self.clock, self.released = Clock(), threading.Event()
        self.connections = Looked(connections_max, self.clock)
        app = FastAPI()
        app.add_api_route("/big", lambda: Response(bytes(BIG)))
        app.add_api_route("/slow", shown(self._slow))
        app.add_api_route("/health", lambda: "ok")
        problems.install(app)
        self.server = serve(app, host="127.0.0.1", port=0, connections=self.connections)

    def _slow(self) -> tuple[int, str, bytes]:
        self.released.wait(patience(60))
        return 200, "text/plain", b"made"

    def open(self, path: str) -> socket.socket:
        """Ask for a page, through a small window, and do not read it."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(patience(20))
        client.connect(("127.0.0.1", self.server.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client

    def refuses(self) -> bool:
        """Whether one more client of the slow page is told that it is busy."""
        with self.open("/slow") as client:
            client.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                return client.recv(12) == b"HTTP/1.1 503"
        return False


@pytest.fixture
def site():
    found = Site(connections_max=8)
    yield found
    found.released.set()
    found.server.stop()


def _rest(client: socket.socket) -> int:
    came = 0
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1_000_000):
            came += len(part)
    return came


def test_a_reader_that_takes_nothing_is_dropped_when_its_time_is_over_and_not_before(site):
    with site.open("/big") as client:
        assert client.recv(12) == OK
        until(lambda: any(one._stuck_since is not None for one in site.connections._open), 20)
        site.clock.now += READER_S
        assert _ask(site.server.port).startswith(OK)  # it has looked since
        assert site.server.connections >= 1

        site.clock.now += 0.001
        until(lambda: site.server.connections == 0, 20)

        assert _rest(client) < BIG // 2


def test_as_many_slow_readers_as_may_connect_keep_nobody_out(site):
    with ExitStack() as stack:
        slow = [stack.enter_context(site.open("/big")) for _ in range(8)]
        for client in slow:
            assert client.recv(12) == OK
        answers = [_ask(site.server.port) for _ in range(3)]

        assert all(answer.startswith(OK) for answer in answers)
        assert _rest(slow[0]) < BIG // 2
        assert len(slow[-1].recv(1_000, socket.MSG_WAITALL)) == 1_000  # the last still has its own


def test_those_that_wait_for_us_are_not_closed_for_one_that_comes_later(site):
    with ExitStack() as stack:
        waiting = [stack.enter_context(site.open("/slow")) for _ in range(8)]
        until(lambda: sum(not one.sends for one in site.connections._open) == 8, 20)
        with _connect(site.server.port) as late:
            late.settimeout(patience(5))
            assert _ended(late)
        site.released.set()

        assert all(client.makefile("rb").read().endswith(b"made") for client in waiting)


FOLLOWING = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: "


def _pipeline(site: Site, following: bytes) -> socket.socket:
    """Ask for the slow page and, in the same connection, for what comes after it."""
    client = _connect(site.server.port)
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: any(not one.sends for one in site.connections._open), 20)
    client.sendall(following)
    return client


def test_headers_of_a_request_that_follows_are_bounded_while_one_is_answered(site):
    with _pipeline(site, FOLLOWING) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(b"A" * (2 * HEAD_BYTES_MAX))

        assert _rest(client) == 0  # it is cut off, though the clock stands still


def test_headers_of_a_request_that_follows_have_a_deadline_while_one_is_answered(site):
    with _pipeline(site, FOLLOWING) as client:
        until(lambda: any(one.sends for one in site.connections._open), 20)
        site.clock.now += REQUEST_S + 0.001

        assert _ended(client)


def test_bytes_that_are_not_http_are_no_part_of_the_answer_before(site):
    with _pipeline(site, b"what?\r\n\r\n") as client:
        assert _rest(client) == 0


def test_a_body_that_waits_for_the_answer_before_has_its_time_after_it(site):
    head = FOLLOWING + b"1\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    with _pipeline(site, head) as client, client.makefile("rb") as file:
        until(lambda: any(one.sends for one in site.connections._open), 20)
        site.clock.now += 10 * REQUEST_S  # its client could send nothing: we have not read
        until(lambda: site.connections.looked_at == site.clock.now, 20)
        site.released.set()
        client.sendall(b"body")

        assert file.read().count(b"HTTP/1.1 ") == 2


def test_connections_are_looked_at_as_often_whoever_came_before(site):
    for _ in range(20):
        _ask(site.server.port)
        until(lambda: not site.connections._open, 20)
    with _connect(site.server.port):
        until(lambda: len(site.connections._open) == 1, 20)
        began, before = time.monotonic(), site.connections.looks
        until(lambda: site.connections.looks >= before + 20, 60)

        assert time.monotonic() - began > 1.5  # ten times a second


def test_a_page_that_hangs_holds_no_more_threads_than_it_may():
    site = Site(connections_max=100)
    try:
        with ExitStack() as stack:
            waiting = [stack.enter_context(site.open("/slow")) for _ in range(MAKERS_MAX)]
            until(site.refuses, 20)
            assert _ask(site.server.port).startswith(OK)
            site.released.set()
            assert all(client.makefile("rb").read().endswith(b"made") for client in waiting)
    finally:
        site.released.set()
        site.server.stop()


@pytest.mark.parametrize(("files", "most"), [(1_024, 800), (3_000, 2_776), (9_000, 5_000)])
def test_a_process_takes_as_many_files_as_it_may_and_no_more_connections(files, most):
    program = "from producers.web.connections import connections_allowed as most; print(most())"
    limited = f"ulimit -Sn 256; ulimit -Hn {files}; exec {sys.executable} -c '{program}'"
    ran = subprocess.run(["sh", "-c", limited], check=True, capture_output=True, text=True)

    assert int(ran.stdout) == most
