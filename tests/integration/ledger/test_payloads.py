"""Payloads that no reader could read: refused at every door, and harmless where they got in."""

import json
import math
import mmap
import random
from contextlib import suppress

import psycopg
import pytest

from producers.cli.terminal.values import json_object
from shared import db
from shared.contracts import AppendAudit, Probe, RecordMessage, StartWorkflow
from shared.db import Role
from shared.errors import PayloadRefused
from shared.json_values import DEPTH_MAX
from shared.ledger.outbox import payload_of
from shared.ledger.wakeups import Wire
from tests.support import hostile_json
from tests.support.commands import document, refused
from tests.support.factories import claim, job, make_tenant, publish_jobs, rows
from tests.support.thoroughness import examples
from tests.support.workers import work_off
from workers.process.leases import SLOTS_BYTES, RunningJob, Slots

DEEP = '{"note": ' + "[" * 1_000 + "]" * 1_000 + "}"
INSERT = """INSERT INTO "Job" ("tenantId", "payload"{names})
            VALUES (%(tenant)s, %(payload)s{values}) RETURNING "id" """


def levels(count):
    """Lists within one another."""
    value = []
    for _ in range(count - 1):
        value = [value]
    return value


def free_form(name, value):
    """A job of the kind whose free-form field holds a value."""
    return {
        "record_message": lambda: RecordMessage(content="hi", role="USER", parameters=value),
        "append_audit": lambda: AppendAudit(
            action="a", resource="r", actor="x", entry_id="e", what=value
        ),
        "start_workflow": lambda: StartWorkflow(name="w", input=value),
    }[name]()


def insert(tenant, payload, *, role=Role.APP, **columns):
    """Publish a probe by SQL, as a service does. Returns its id."""
    columns = {"job": "probe"} | columns
    names = "".join(f', "{name}"' for name in columns)
    values = "".join(f", %({name})s" for name in columns)
    statement = INSERT.format(names=names, values=values).encode()
    with db.transaction(tenant, role=role) as conn:
        return conn.execute(statement, columns | {"tenant": tenant, "payload": payload}).fetchone()[
            0
        ]


@pytest.fixture
def unguarded(pool):
    """A ledger as an older version left it: the table refuses nothing."""
    with db.transaction(None, role=Role.OWNER) as conn:
        for limit in ("depth", "number"):
            conn.execute(
                f'ALTER DOMAIN "JobPayload" DROP CONSTRAINT "JobPayload_{limit}_check"'.encode()
            )


# ---- in Python


@pytest.mark.parametrize("kind", ["record_message", "append_audit", "start_workflow"])
@pytest.mark.parametrize(
    "value",
    [
        {"a": "cut \ud83d"},
        {"\ud83d": 1},
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": 10**400},
        {"a": "b\0"},
        {"a": levels(DEPTH_MAX)},
        {"a": levels(3_000)},
        {"a": b"\xff"},
        {"a": object()},
    ],
    ids=range(10),
)
def test_a_free_form_field_that_json_cannot_hold_is_refused_with_a_sentence(kind, value):
    with pytest.raises(PayloadRefused, match=f"^{kind}: "):
        payload_of(free_form(kind, value))


def test_the_deepest_payload_that_python_writes_is_the_deepest_that_the_table_takes(pool):
    deepest = free_form("record_message", {"a": levels(DEPTH_MAX - 2)})
    [job_id] = publish_jobs(make_tenant("a"), [deepest])

    assert claim(job_id)[0].payload["parameters"] == {"a": levels(DEPTH_MAX - 2)}
    with pytest.raises(PayloadRefused, match="deeper"):
        payload_of(free_form("record_message", {"a": levels(DEPTH_MAX - 1)}))


@pytest.mark.parametrize("text", [DEEP, '{"n": 1e5000}', '{"n": NaN}', '{"a": "\\ud83d"}'])
def test_an_option_takes_no_json_that_cannot_be_stored(text):
    with pytest.raises(ValueError, match="invalid JSON"):
        json_object(text)


# ---- in SQL


@pytest.mark.parametrize(
    ("payload", "limit"),
    [
        ('{"n": 1e5000}', "number"),
        ('{"n": -1e5000}', "number"),
        ('{"n": 1e-5000}', "number"),
        ('{"n": ' + "9" * 5_000 + "}", "number"),
        ('{"a": [{"b": [1, 1e309]}]}', "number"),
        (DEEP, "depth"),
        (json.dumps({"a": levels(DEPTH_MAX)}), "depth"),
        ('{"a":' * 101 + "1" + "}" * 101, "depth"),
    ],
)
def test_the_table_refuses_what_no_worker_could_read(pool, payload, limit):
    tenant = make_tenant("a")

    with pytest.raises(psycopg.errors.CheckViolation, match=f"JobPayload_{limit}_check"):
        insert(tenant, payload)


@pytest.mark.parametrize(
    "payload",
    [
        '{"n": 1' + "0" * 308 + "}",
        '{"n": -5e-324}',
        '{"n": 0.0}',
        json.dumps({"a": levels(DEPTH_MAX - 1)}),
        '{"a": "' + "9" * 5_000 + '"}',
        json.dumps({"a": [{"b": "[" * 500}] * 120}),
    ],
)
def test_the_table_takes_what_is_within_the_limits(pool, payload):
    job_id = insert(make_tenant("a"), payload)

    assert job(job_id)["payload"] == json.loads(payload)


@pytest.mark.parametrize(
    "column",
    [
        {"createdAt": "infinity"},
        {"createdAt": "0044-03-15 BC"},
        {"dueAt": "-infinity"},
        {"dueAt": "294276-12-31"},
        {"attempt": 2**31 - 1},
        {"crashes": 2**31 - 1},
        {"fence": 2**63 - 1},
    ],
)
def test_the_table_refuses_a_job_whose_claim_would_fail(pool, column):
    tenant = make_tenant("a")

    with pytest.raises(psycopg.Error, match=r"payload_refused: .dueAt") as refusal:
        insert(tenant, "{}", role=Role.RELAY, **column)  # who may write every column

    assert refusal.value.sqlstate == "AL002"


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ({"id": ""}, r'"id" must be 1 to 64 bytes \(got 0\)'),
        ({"id": "x" * 65}, r'"id" must be 1 to 64 bytes \(got 65\)'),
        ({"id": "ğ" * 33}, r'"id" must be 1 to 64 bytes \(got 66\)'),
        ({"id": "x" * 1_200}, r'"id" must be 1 to 64 bytes \(got 1200\)'),
        ({"job": "", "queue": "audit"}, '"job" must be 1 to 200 characters'),
        ({"job": "x" * 201, "queue": "audit"}, '"job" must be 1 to 200 characters'),
        ({"job": "pro\nbe", "queue": "audit"}, "without control characters"),
        ({"job": "probe\x1b[2J", "queue": "audit"}, "without control characters"),
        ({"queue": "nowhere"}, 'no queue is named "nowhere"; leave "queue" out'),
        ({"queue": "a" * 10_000}, 'no queue is named "a{100}"; leave "queue" out'),
        ({"queue": "\x1b[2J"}, r'no queue is named "\\u001b\[2J"'),
    ],
)
def test_a_publisher_in_sql_is_told_which_name_no_worker_could_take(pool, column, sentence):
    tenant = make_tenant("a")

    with pytest.raises(psycopg.Error, match=f"payload_refused: .*{sentence}") as refusal:
        insert(tenant, "{}", **column)

    assert refusal.value.sqlstate == "AL002"
    assert rows('SELECT 1 FROM "Job"') == []


def test_a_kind_that_the_database_was_not_told_of_is_taken_for_a_queue_that_it_knows(pool):
    job_id = insert(make_tenant("a"), "{}", job="x" * 200, queue="audit")

    assert job(job_id)["queue"] == "audit"


def test_a_database_that_knows_no_kinds_of_jobs_takes_every_queue(pool):
    tenant = make_tenant("a")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('DELETE FROM "JobKind"')

    assert job(insert(tenant, "{}", queue="maintenance"))["queue"] == "maintenance"


@pytest.mark.parametrize("job_id", ["x" * 64, "\x01" * 64, "ğ" * 32, "\U0001f642" * 16])
def test_a_job_of_the_longest_id_that_crashes_its_worker_is_known_by_it(pool, job_id):
    assert insert(make_tenant("a"), "{}", id=job_id) == job_id

    slots = Slots(mmap.mmap(-1, SLOTS_BYTES))
    slots.write(3, RunningJob(job_id, 1.0, 7))
    wakeups = Wire("ailydian", b"key")
    message = wakeups.wakeup("maintenance", job_id, 0)

    assert [one.job_id for one in slots.read()] == [job_id]
    assert wakeups.read("maintenance", message) == (job_id, 0)


def stored_earlier(job_id, named):
    """Give a job an id as an older version of the table took it. Returns the id."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "Job" SET "id" = %s WHERE "id" = %s', [named, job_id])
        conn.execute('UPDATE "JobOutbox" SET "jobId" = %s WHERE "jobId" = %s', [named, job_id])
    return named


@pytest.mark.parametrize("named", ["x" * 65, "ğ" * 400, "it's \x1b mine " * 20])
def test_an_older_job_of_a_long_id_is_done_as_any_other(pool, redis_url, named):
    job_id = stored_earlier(insert(make_tenant("a"), "{}"), named)

    work_off(redis_url)

    assert job(job_id)["state"] == "COMPLETED"


@pytest.mark.parametrize("named", ["x" * 1_000, "ğ" * 1_000, "\x1b" * 200])
def test_an_older_job_whose_id_no_wake_up_can_hold_is_buried_by_itself(pool, redis_url, named):
    job_id = stored_earlier(insert(make_tenant("a"), "{}"), named)
    neighbours = publish_jobs(make_tenant("b"), [Probe(n=n) for n in range(5)])

    work_off(redis_url)

    assert {job(one)["state"] for one in neighbours} == {"COMPLETED"}
    assert job(job_id)["state"] == "DEAD"
    assert rows('SELECT "reason", "error" FROM "DeadLetter"') == [
        (
            "permanent",
            f'The job\'s "id" has {len(named.encode())} bytes, too long for a wake-up: '
            "it must be 1 to 64.",
        )
    ]
    assert rows('SELECT 1 FROM "Quarantine"') == []


def test_a_traceparent_that_makes_no_sense_costs_its_own_job_alone(pool, redis_url):
    insert(make_tenant("a"), '{"n": 1}', traceparent="x" * 100_000)
    neighbours = publish_jobs(make_tenant("b"), [Probe(n=n) for n in range(5)])

    work_off(redis_url)

    assert {job(one)["state"] for one in neighbours} == {"COMPLETED"}


def test_an_id_of_a_publishers_own_with_quotes_is_done_as_any_other(pool, redis_url):
    job_id = insert(make_tenant("a"), "{}", id='it\'s "mine" \\ 1 ğ')

    work_off(redis_url)

    assert job(job_id)["state"] == "COMPLETED"


# ---- what got in all the same


@pytest.mark.parametrize("payload", ['{"n": 1e5000}', DEEP, '{"n": ' + "9" * 5_000 + "}"])
@pytest.mark.usefixtures("unguarded")
def test_a_payload_that_cannot_be_read_is_buried_by_itself_and_its_neighbours_are_done(
    redis_url, payload
):
    poison = insert(make_tenant("a"), payload)
    neighbours = publish_jobs(make_tenant("b"), [Probe(n=n) for n in range(20)])

    work_off(redis_url)

    assert {job(one)["state"] for one in neighbours} == {"COMPLETED"}
    assert job(poison)["state"] == "DEAD"
    assert rows('SELECT "jobId", "reason", "attempts" FROM "DeadLetter"') == [
        (poison, "permanent", 1)
    ]
    assert rows('SELECT "errorType" FROM "JobAttempt"') == [("PayloadRefused",)]


@pytest.mark.parametrize("payload", ['{"n": 1e5000}', DEEP])
@pytest.mark.usefixtures("unguarded", "acme")
def test_commands_list_show_explain_and_cancel_a_job_whose_payload_cannot_be_read(run, payload):
    poison = insert("acme", payload)

    listed = document(run("jobs", "list", "--json"))
    shown = document(run("jobs", "show", poison, "--json"))

    assert [one["id"] for one in listed] == [poison]
    assert shown["payload"] == rows('SELECT "payload"::text FROM "Job"')[0][0]
    assert run("jobs", "show", poison)[0] == 0
    assert run("jobs", "why", poison)[0] == 0
    assert document(run("jobs", "why", poison, "--json"))
    assert document(run("jobs", "cancel", poison, "--json"))["was"] == "PENDING"
    assert job(poison)["state"] == "CANCELLED"


@pytest.mark.usefixtures("unguarded", "acme")
def test_a_dead_letter_whose_payload_cannot_be_read_is_shown_edited_and_replayed(run, redis_url):
    poison = insert("acme", '{"n": 1e5000}')
    work_off(redis_url)

    shown = document(run("dead", "show", poison, "--json"))
    listed = document(run("dead", "list", "--json"))
    edited = document(run("dead", "edit", poison, "--payload", '{"n": 7}', "--json"))

    assert shown["payload"].startswith('{"n": 1000')
    assert [one["id"] for one in listed] == [poison]
    assert edited["edited"]
    assert document(run("dead", "replay", poison, "--json"))
    assert claim(poison)[0].payload["n"] == 7


@pytest.mark.usefixtures("unguarded", "acme")
def test_schedules_with_a_payload_that_cannot_be_read_are_listed(run):
    with db.transaction("acme") as conn:
        conn.execute(
            """INSERT INTO "Schedule" ("name", "cron", "job", "payload", "slotAt", "nextAt")
               VALUES ('bad', '0 0 1 1 *', 'probe', '{"n": 1e5000}', now(), now())"""
        )

    assert document(run("schedule", "list", "--json"))[0]["name"] == "bad"


def test_publish_refuses_what_cannot_be_stored_with_a_sentence(run, acme):
    for payload in ('{"n": 1e5000}', DEEP, '{"note": "\\ud83d"}', '{"n": NaN}'):
        assert "invalid JSON" in refused(
            run("publish", "probe", "--tenant", "acme", "--payload", payload)
        )
    assert rows('SELECT 1 FROM "Job"') == []


@pytest.mark.usefixtures("unguarded")
def test_no_payload_that_postgres_takes_holds_up_its_neighbours_at_a_worker(redis_url):
    rng, hostile, good = random.Random(7), make_tenant("a"), make_tenant("b")
    for n in range(examples(5)):
        for _ in range(40):
            with suppress(psycopg.Error):  # not JSON, NUL, an object it is not
                insert(hostile, hostile_json.payload(rng, "probe"), key=f"{rng.random()}")
        neighbours = publish_jobs(good, [Probe(n=n, note=f"{k}") for k in range(10)])

        work_off(redis_url)

        assert {job(one)["state"] for one in neighbours} == {"COMPLETED"}
        assert rows("""SELECT "id" FROM "Job" WHERE "state" IN ('PENDING', 'RUNNING')""") == []
