"""/health and /ready over HTTP, and what makes them say no."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from producers.ledger import scheduler
from producers.queries.ledger import queue_figures as figures
from producers.queries.operations import incidents
from producers.web import health
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.ledger import wakeups
from shared.queries.ledger import workers
from shared.queries.ledger.workers import Process
from tests.support.factories import make_tenant, publish_probe, rows, wake
from tests.support.http_api import serving
from tests.support.patience import patience


@pytest.fixture
def address(pool, redis_url):
    with serving(redis_url) as api:
        yield f"http://127.0.0.1:{api.port}"


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=patience(30)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def tell(role, *, name=None, queues=(), threads=1, **figures):
    process = Process(name or role, "here", 1, role, queues, threads)
    with db.transaction(None, role=Role.RELAY) as conn:
        workers.upsert_process(conn, process, figures)


def silence(role, seconds):
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """UPDATE "WorkerProcess" SET "seenAt" = now() - %s * interval '1 second'
               WHERE "role" = %s""",
            [seconds, role],
        )


@pytest.fixture
def all_well(pool):
    tell("relay")
    tell("scheduler")
    tell("worker", queues=QUEUES, threads=4, threads_alive=4)


def failed(address):
    status, page = ask(f"{address}/ready")
    assert status == (503 if page["failed"] else 200)
    assert page["ok"] == (not page["failed"])
    return page["failed"]


def test_a_process_that_answers_is_healthy_whatever_the_servers_do(address):
    db.close_pool()

    status, page = ask(f"{address}/health")

    assert status == 200
    assert page["ok"] is True
    assert page["uptimeSeconds"] >= 0


def test_ready_says_yes_when_everything_is_there(address, all_well):
    assert failed(address) == []


def test_an_empty_installation_names_all_that_is_missing(address):
    assert failed(address) == ["relay", "scheduler", "workers"]


def test_what_was_heard_of_after_the_look_began_was_heard_of_now(all_well):
    silence("relay", -7)
    silence("scheduler", -7)
    silence("worker", -7)

    with db.transaction(None, role=Role.RELAY) as conn:
        seen = figures.select_seen(conn)
        [worker] = figures.select_processes(conn)

    assert (seen.relay_s, seen.scheduler_s, worker.silent_s) == (0, 0, 0)


def test_what_was_never_heard_of_has_no_age(pool):
    with db.transaction(None, role=Role.RELAY) as conn:
        seen = figures.select_seen(conn)

    assert (seen.relay_s, seen.scheduler_s) == (None, None)


def test_a_job_that_is_due_after_the_look_began_is_not_late(pool):
    job_id = publish_probe(make_tenant())
    with db.transaction(None, role=Role.RELAY) as conn:
        wake(conn)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "Job" SET "dueAt" = now() + interval '7 s' WHERE "id" = %s""", [job_id]
        )

    with db.transaction(None, role=Role.RELAY) as conn:
        [row] = figures.select_figures(conn, ["maintenance"], rate_s=1.0)
        [load] = workers.select_loads(conn, ["maintenance"])
        untaken = incidents.select_untaken(conn)

    assert (row.oldest_seconds, load.oldest_s, untaken) == (0, 0, {"maintenance": 0})


def test_a_silent_relay_is_named(address, all_well):
    silence("relay", 16)

    assert failed(address) == ["relay"]


def test_a_silent_scheduler_is_named(address, all_well):
    silence("scheduler", 31)

    assert failed(address) == ["scheduler"]


def test_a_silent_worker_is_named_while_it_is_not_forgotten(address, all_well):
    tell("worker", name="second", queues=QUEUES)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """UPDATE "WorkerProcess" SET "seenAt" = now() - interval '16 s' WHERE "id" = 'second'
            """
        )

    assert failed(address) == ["heartbeats"]


def test_a_dead_thread_is_named_with_its_process(address, all_well):
    tell("worker", queues=QUEUES, threads=4, threadsAlive=3)

    page = ask(f"{address}/ready")[1]

    assert page["failed"] == ["threads"]
    detail = next(one["detail"] for one in page["checks"] if one["name"] == "threads")
    assert detail == "here pid 1: 3 of 4 alive"


def test_a_sandbox_that_is_too_weak_is_named_with_its_process(address, all_well):
    weak = {"possible": ["read a file", "trace the worker"], "layers": "no seccomp"}

    tell("worker", queues=QUEUES, threads=4, sandbox=weak | {"required": False})
    assert failed(address) == []
    tell("worker", queues=QUEUES, threads=4, sandbox=weak | {"required": True})

    _, page = ask(f"{address}/ready")
    assert page["failed"] == ["sandbox"]
    [detail] = [one["detail"] for one in page["checks"] if one["name"] == "sandbox"]
    assert detail == (
        "here pid 1: documents are refused: code in one could read a file, trace the worker "
        "(no seccomp)"
    )


def test_verify_tells_of_the_workers_sandbox_and_measures_it_where_none_runs(run, pool):
    def line():
        code, output = run("verify", "--json")
        [one] = [one for one in json.loads(output)["checks"] if one["name"] == "sandbox"]
        assert code == (0 if one["ok"] else 1)
        return one["ok"], one["detail"]

    here = line()
    tell("worker", sandbox={"possible": ["mount"], "layers": "x", "required": True})

    assert (here[0], here[1][:31]) == (True, "nothing is left open: seccomp, ")
    assert line() == (False, "here pid 1: documents are refused: code in one could mount (x)")


def test_a_queue_that_nobody_serves_is_named(address, all_well):
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "WorkerProcess" SET "queues" = ARRAY['ingest']""")

    page = ask(f"{address}/ready")[1]

    assert page["failed"] == ["workers"]
    assert "embedding" in json.dumps(page["checks"])


def test_a_running_scheduler_is_noticed_by_what_it_does(address, all_well):
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""DELETE FROM "WorkerProcess" WHERE "role" = 'scheduler'""")
    before = failed(address)

    scheduler.put_sweep("platform")
    scheduler.sweep_if_due("platform", threading.Event())

    assert before == ["scheduler"]
    assert failed(address) == []


def test_a_schema_without_a_contract_is_named(address, all_well):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute("""DELETE FROM "JobKind" WHERE "job" = 'probe'""")

    assert failed(address) == ["schema"]


def test_a_database_that_was_never_migrated_is_named(address):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('DROP TABLE "JobKind" CASCADE')

    assert failed(address) == ["schema"]


def test_a_redis_that_is_away_is_named(pool, all_well, redis_url):
    with wakeups.connect("redis://127.0.0.1:1", timeout_s=1.0) as away:
        gone = {one.name for one in health.look(away, "test") if not one.ok}

    assert gone == {"redis"}


def test_a_page_that_does_not_exist_is_not_found(address):
    status, page = ask(f"{address}/nothing")

    assert status == 404
    assert page["code"] == "not_found"
    assert rows("SELECT 1") == [(1,)]


@pytest.fixture
def silence_port():
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def test_a_redis_that_does_not_answer_is_named_in_time(pool, silence_port):
    url = f"redis://127.0.0.1:{silence_port}"
    with wakeups.connect(url, timeout_s=3.0) as client:
        began = time.monotonic()
        checks = {one.name: one for one in health.look(client, "test")}
        took_s = time.monotonic() - began

    assert not checks["redis"].ok
    assert checks["postgres"].ok
    assert took_s < patience(2 * health.ANSWER_S + 1)


def test_a_postgres_that_does_not_answer_is_named_in_time(redis_url, silence_port):
    db.open_pool(f"postgresql://127.0.0.1:{silence_port}/none")
    with wakeups.connect(redis_url) as client:
        looks = health.Looks(client, "test")
        began = time.monotonic()
        checks = [{one.name: one for one in looks.look()} for _ in range(2)]
        took_s = time.monotonic() - began
        looks.close()
    db.close_pool()

    for found in checks:
        assert set(found) == {"postgres", "redis"}
        assert (found["postgres"].ok, found["redis"].ok) == (False, True)
    assert took_s < patience(4 * health.ANSWER_S + 1)
