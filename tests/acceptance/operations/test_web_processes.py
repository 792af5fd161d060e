"""`ailydian web --processes`: several processes that answer on one port, and their ends."""

import json
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection

import psutil
import pytest

from producers.accounts import api_keys
from shared import db
from shared.db import Role
from tests.acceptance.conftest import ROOT
from tests.support import factories, processes
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import PEPPERS, make_key
from tests.support.patience import patience, until

ASKED_MAX = 400  # the system deals connections out by chance: all to one process is impossible
COMMAND = [sys.executable, "-m", "producers.cli", "web", "--json", "--port"]


@pytest.fixture
def key(pool):
    """A key that the processes know."""
    tenant = make_tenant("acme")
    user = make_user(tenant, "bob", role="ADMIN")
    return make_key(tenant, user, "jobs:read", "jobs:write")


@pytest.fixture
def environment(database_url, redis_url, pool):
    """What the role knows."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "AILYDIAN_SIGNING_KEY": factories.KEY.decode(),
        "AILYDIAN_KEY_PEPPER": PEPPERS.secrets[0].decode(),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def web(environment):
    """The role with two processes, and the port it announces."""
    with subprocess.Popen(
        [*COMMAND, "0", "--processes", "2"], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    ) as role:
        try:
            line = json.loads(role.stdout.readline())
            assert line["pid"] == role.pid
            yield role, int(line["url"].rpartition(":")[2])
        finally:
            processes.end(role.pid)


def probe(number):
    """A publish of a job of its own."""
    return json.dumps({"job": "probe", "payload": {"n": number}}).encode()


def ask(port, key, method="GET", body=None):
    """Ask twice on one connection. Returns which process answered, and what."""
    connection = HTTPConnection("127.0.0.1", port, timeout=patience(20))
    try:
        connection.request("GET", "/health")
        pid = json.loads(connection.getresponse().read())["pid"]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, "/v1/jobs", body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return pid, answer.status
    finally:
        connection.close()


def answers(port, key):
    """What each process answers now, by process id."""
    found = {}
    for _ in range(ASKED_MAX):
        pid, status = ask(port, key)
        found[pid] = status
        if len(found) == 2:
            break
    return found


@pytest.mark.timeout(240)
def test_two_processes_answer_on_one_port_and_both_refuse_a_revoked_key(web, key):
    role, port = web

    before = answers(port, key)
    with db.transaction(None, role=Role.OWNER) as conn:
        api_keys.revoke(conn, None, key[:12])
    until(lambda: set(answers(port, key).values()) == {401}, 1.5)

    assert set(before.values()) == {200}
    assert before.keys() == {one.pid for one in psutil.Process(role.pid).children()}
    assert role.pid not in before


@pytest.mark.timeout(240)
def test_no_request_is_lost_after_a_process_is_killed_and_another_takes_its_place(web, key):
    role, port = web
    killed, stays = answers(port, key)

    processes.kill([psutil.Process(killed)])
    published = [ask(port, key, "POST", probe(n)) for n in range(20)]
    until(lambda: len(answers(port, key)) == 2)

    assert {status for _, status in published} == {202}
    assert rows('SELECT count(*) FROM "Job"') == [(20,)]
    again = answers(port, key)
    assert stays in again
    assert killed not in again
    assert again.keys() == {one.pid for one in psutil.Process(role.pid).children()}


def half_sent(port, key, wanted):
    """A connection to that process, with a publish whose last byte is still to come."""
    body = probe(wanted)
    for _ in range(ASKED_MAX):
        connection = socket.create_connection(("127.0.0.1", port), timeout=patience(20))
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if f'"pid": {wanted},'.encode() in connection.recv(65_536):
            head = (
                f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body[:-1])
            return connection, body[-1:]
        connection.close()
    raise AssertionError(f"{wanted} does not answer")


def refuses(port):
    """Whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=patience(5)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.timeout(240)
def test_sigterm_lets_every_process_answer_what_it_has_begun(web, key):
    role, port = web
    begun = [half_sent(port, key, pid) for pid in answers(port, key)]

    role.terminate()
    until(lambda: refuses(port))
    for connection, rest in begun:
        connection.sendall(rest)
    told = [connection.recv(65_536).split(b"\r\n")[0] for connection, _ in begun]
    for connection, _ in begun:
        connection.close()

    assert told == [b"HTTP/1.1 202 Accepted"] * 2
    assert role.wait(patience(30)) == 0


@pytest.mark.timeout(240)
def test_the_processes_end_with_a_parent_that_is_killed(web, key):
    role, port = web
    children = psutil.Process(role.pid).children()

    role.kill()

    assert len(children) == 2
    assert not psutil.wait_procs(children, patience(30))[1]
    assert refuses(port)


@pytest.mark.timeout(240)
def test_a_second_server_does_not_slip_in_on_a_port_that_is_shared(web, environment):
    _, port = web
    for count in ("1", "2"):
        ended = subprocess.run(
            [*COMMAND, str(port), "--processes", count],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience(60),
        )

        assert ended.returncode != 0
        assert f"127.0.0.1:{port}: Address already in use." in ended.stderr
