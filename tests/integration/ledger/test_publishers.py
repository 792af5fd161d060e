"""Publishers at the Redis door: a stream each, and what each may publish."""

import json

import psycopg
import pytest
import redis

from producers.ledger.redis_ingress import RedisIngress
from shared import db
from shared.contracts import CONTRACTS, RESERVED_ACTORS
from tests.support.commands import document, refused
from tests.support.factories import make_tenant, make_user, rows

DEFAULT = "ailydian:publish"
AUDIT = {"action": "dead.discard", "resource": "Job", "entry_id": "e1"}
CLOSED = sorted(name for name, one in CONTRACTS.items() if one.audience != "anyone")

pytestmark = pytest.mark.usefixtures("acme")


@pytest.fixture
def client(redis_url, pool):
    with redis.Redis.from_url(redis_url) as connected:
        yield connected


@pytest.fixture
def door(client):
    """Serve what waits, with the publishers of now, and return how many entries that were."""

    def serve():
        ingress = RedisIngress(client, "ailydian")
        ingress.check()
        return ingress.turn(block_s=0.001)

    return serve


def send(client, key, *, stream=DEFAULT, job="probe", tenant="acme", payload=None):
    """Send a request."""
    fields = {"job": job, "tenant": tenant, "key": key, "payload": json.dumps(payload or {"n": 1})}
    client.xadd(stream, fields)


def reply(client, key, publisher=None):
    """The reply to a key: accepted, or the code of its refusal."""
    found = client.lpop(
        f"ailydian:replies:{publisher}:{key}" if publisher else f"ailydian:reply:{key}"
    )
    if found is None:
        return None
    answer = json.loads(found)
    return "accepted" if answer["accepted"] else answer["error"]


def put(run, name, *options):
    return document(run("publishers", "put", name, *options, "--json"))


# ---- the default publisher


def test_until_it_is_put_the_default_publisher_publishes_open_jobs_for_every_tenant(door, client):
    make_tenant("b")
    send(client, "k1")
    send(client, "k2", tenant="b")

    assert door() == 2

    assert [reply(client, key) for key in ("k1", "k2")] == ["accepted", "accepted"]
    assert rows('SELECT DISTINCT "producer" FROM "Job"') == [("door",)]


@pytest.mark.parametrize("name", CLOSED)
def test_a_job_that_is_not_for_publishers_is_closed_to_the_door_whatever_it_says(
    door, client, name
):
    properties = CONTRACTS[name].model_json_schema()["properties"]
    payload = {field: _example(properties[field]) for field in CONTRACTS[name].model_fields}
    send(client, "k1", job=name, payload=payload)

    door()

    assert reply(client, "k1") in {"publisher_refused", "payload_refused"}
    assert rows('SELECT 1 FROM "Job"') == []


def _example(schema):
    if "enum" in schema:
        return schema["enum"][0]
    kinds = {"integer": 1, "boolean": False, "array": ["x"], "number": 0.5}
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    return kinds.get(schema.get("type", "string"), "x")


@pytest.mark.parametrize(
    ("job", "payload"),
    [
        ("run_step", {"run_id": "r"}),
        ("flip_model", {"model": "m"}),
        (
            "update_trust",
            {"user_id": "ada", "kind": "moderation", "source_id": "s", "value": -1.0,
             "occurred_at": "2026-01-01T00:00:00Z", "revision": "2026-01-01T00:00:00Z"},
        ),
        ("append_audit", AUDIT | {"actor": "cli:root"}),
        ("append_audit", AUDIT | {"actor": " CLI:root"}),
        ("append_audit", AUDIT | {"actor": "\uff43li:root"}),
        ("append_audit", AUDIT | {"actor": "cli\u200b:root"}),
        ("append_audit", AUDIT | {"actor": "platform"}),
        ("append_audit", AUDIT | {"actor": "schedule:nightly"}),
        ("append_audit", AUDIT | {"actor": "user:ada"}),
    ],
)  # fmt: skip
def test_what_only_the_system_publishes_is_refused_at_the_door(door, client, job, payload):
    send(client, "k1", job=job, payload=payload)

    door()

    assert reply(client, "k1") == "publisher_refused"
    assert rows('SELECT 1 FROM "Job"') == []


def test_a_service_may_write_the_audit_log_in_its_users_name(door, client):
    send(client, "k1", job="append_audit", payload=AUDIT | {"actor": "ada@example.org"})

    door()

    assert reply(client, "k1") == "accepted"


def test_the_default_publisher_can_be_given_fewer_rights_and_closed(run, door, client):
    make_tenant("b")
    put(run, "default", "--tenant", "acme", "--job", "probe")
    send(client, "k1")
    send(client, "k2", tenant="b")
    send(client, "k3", tenant="nobody")
    send(client, "k4", job="record_message", payload={"content": "hi", "role": "USER"})
    door()
    said = [reply(client, f"k{n}") for n in (1, 2, 3, 4)]
    put(run, "default", "--nothing")
    send(client, "k5")
    door()

    assert said == ["accepted", *["publisher_refused"] * 3]
    assert reply(client, "k5") == "publisher_refused"


# ---- a publisher with a stream of its own


def test_a_publisher_has_a_stream_and_replies_of_its_own_and_its_rights(run, door, client):
    make_tenant("b")
    put(run, "billing", "--tenant", "b", "--job", "probe")
    stream = f"{DEFAULT}:billing"
    send(client, "k1", stream=stream, tenant="b")
    send(client, "k2", stream=stream, tenant="acme")
    send(client, "k3", stream=stream, tenant="b", job="delete_document",
         payload={"document_id": "d"})  # fmt: skip
    send(client, "k4", tenant="acme")

    assert door() == 4

    said = [reply(client, f"k{n}", "billing") for n in (1, 2, 3)]
    assert said == ["accepted", "publisher_refused", "publisher_refused"]
    assert reply(client, "k4") == "accepted"
    assert rows('SELECT "producer" FROM "Job" WHERE "tenantId" = %s', "b") == [("door:billing",)]
    assert client.keys("ailydian:rep*") == []


def test_no_key_of_the_default_publisher_reaches_the_replies_of_another(run, door, client):
    put(run, "billing", "--all-tenants", "--all-jobs")
    for key in ("billing:k1", "s:billing:k1", ":billing:k1"):
        send(client, key)

    door()

    assert reply(client, "k1", "billing") is None


def test_a_publisher_that_was_removed_is_refused_and_then_not_read(run, door, client):
    put(run, "billing", "--all-tenants", "--all-jobs")
    ingress = RedisIngress(client, "ailydian")
    ingress.check()
    document(run("publishers", "remove", "billing", "--json"))
    send(client, "k1", stream=f"{DEFAULT}:billing")
    ingress.turn(block_s=0.001)
    send(client, "k2", stream=f"{DEFAULT}:billing")

    assert reply(client, "k1", "billing") == "publisher_refused"
    assert door() == 0


def test_a_used_up_stream_of_a_publisher_is_repaired_too(run, door, client):
    put(run, "billing", "--all-tenants", "--all-jobs")
    fields = {"job": "probe", "tenant": "acme", "key": "k1", "payload": "{}"}
    client.xadd(f"{DEFAULT}:billing", fields, id="18446744073709551615-18446744073709551615")

    door()
    send(client, "k2", stream=f"{DEFAULT}:billing")
    door()

    assert [reply(client, key, "billing") for key in ("k1", "k2")] == ["accepted", "accepted"]
    assert rows('SELECT "cause" FROM "Incident"') == [(f"door:{DEFAULT}:billing",)]


def test_the_user_of_a_publisher_can_use_its_stream_and_no_other(run, client, door, redis_url):
    shown = put(run, "billing", "--all-tenants", "--all-jobs")
    rules = [*_words(shown["acl"]), "on", ">secret", "+select"]
    client.execute_command("ACL", "SETUSER", "billing", "reset", *rules)
    with redis.Redis.from_url(redis_url, username="billing", password="secret") as service:
        send(service, "k1", stream=f"{DEFAULT}:billing")
        door()
        answer = service.blpop("ailydian:replies:billing:k1", 1)
        for command in (
            ("XADD", DEFAULT, "*", "a", "b"),
            ("XADD", f"{DEFAULT}:payroll", "*", "a", "b"),
            ("LPOP", "ailydian:replies:payroll:k1"),
            ("LPOP", "ailydian:reply:k1"),
            ("XADD", "ailydian:replies:billing:k1", "*", "a", "b"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                service.execute_command(*command)
    client.acl_deluser("billing")

    assert json.loads(answer[1])["accepted"]


def _words(rules):
    """The rules of a user as ACL SETUSER takes them: a selector is one word."""
    first, *selectors = rules.split(" (")
    return [first, *(f"({one}" for one in selectors)]


# ---- the commands


def test_a_publisher_is_put_listed_shown_removed_and_each_change_is_in_the_audit_log(run):
    made = put(run, "billing", "--tenant", "acme", "--job", "probe", "--job", "record_message")
    listed = document(run("publishers", "list", "--json"))
    shown = document(run("publishers", "show", "billing", "--json"))
    changed = put(run, "billing", "--all-tenants", "--all-jobs")
    page = run("publishers", "list")[1]
    removed = document(run("publishers", "remove", "billing", "--json"))

    assert made == shown == listed[0]
    assert (made["tenants"], made["jobs"]) == (["acme"], ["probe", "record_message"])
    assert made["stream"] == f"{DEFAULT}:billing"
    assert made["replies"] == "ailydian:replies:billing:KEY"
    assert (changed["tenants"], changed["jobs"]) == (None, None)
    assert "billing" in page
    assert removed == {"name": "billing", "removed": True}
    assert "publisher_not_found" in refused(run("publishers", "show", "billing", "--json"))
    acts = rows("""SELECT "action", "resourceId" FROM "AuditLog" ORDER BY "createdAt", "id" """)
    assert acts == [
        ("publisher.put", "billing"), ("publisher.put", "billing"), ("publisher.remove", "billing")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("billing",),
        ("billing", "--all-tenants"),
        ("billing", "--tenant", "acme", "--all-tenants", "--all-jobs"),
        ("billing", "--all-tenants", "--job", "run_step"),
        ("billing", "--all-tenants", "--job", "flip_model"),
        ("billing", "--all-tenants", "--all-jobs", "--nothing"),
        ("Billing", "--all-tenants", "--all-jobs"),
        ("a:b", "--all-tenants", "--all-jobs"),
        ("a" * 32, "--all-tenants", "--all-jobs"),
        ("billing", "--tenant", "nobody", "--all-jobs"),
    ],
)
def test_rights_that_cannot_be_given_are_refused(run, arguments):
    refused(run("publishers", "put", *arguments))

    assert rows('SELECT 1 FROM "Publisher"') == []


# ---- other doors


@pytest.mark.parametrize("job", ["run_step", "update_trust"])
def test_commands_do_not_publish_what_only_the_system_publishes(run, tmp_path, job):
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"run_id": "r"}\n')

    for arguments in (
        ("publish", job, "--tenant", "acme", "--payload", '{"run_id": "r"}'),
        ("batches", "publish", str(lines), "--tenant", "acme", "--job", job, "--name", "x"),
        ("schedule", "put", "x", "--tenant", "acme", "--cron", "@daily", "--job", job),
    ):
        assert "published by the system alone" in refused(run(*arguments))


def insert_as(role, job, **columns):
    """Publish by SQL in a role."""
    columns = {"payload": "{}"} | columns
    names = "".join(f', "{name}"' for name in columns)
    values = ", %s" * len(columns)
    statement = f"""INSERT INTO "Job" ("tenantId", "job"{names}) VALUES ('acme', %s{values})"""
    with db.transaction("acme") as conn:
        conn.execute(f"SET LOCAL ROLE {role}".encode())
        conn.execute(statement.encode(), [job, *columns.values()])


@pytest.mark.parametrize("role", ["ailydian_app", "ailydian_platform"])
@pytest.mark.parametrize("job", ["run_step", "flip_model", "update_trust"])
def test_publishers_in_sql_do_not_publish_what_is_not_for_them(pool, role, job):
    with pytest.raises(psycopg.Error, match="publisher_refused"):
        insert_as(role, job)


def test_the_platforms_own_user_cannot_name_the_queue_to_get_around_it(pool):
    with pytest.raises(psycopg.Error, match="publisher_refused"):
        insert_as("ailydian_platform", "run_step", queue="workflow")


@pytest.fixture
def own_user(pool, database_url):
    """The platform's own user: it was granted the role, and takes no role."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE user_of_a_test NOLOGIN IN ROLE ailydian_platform")
        yield "user_of_a_test"
        admin.execute("DROP ROLE user_of_a_test")


@pytest.mark.parametrize("job", CLOSED)
def test_the_platforms_own_user_publishes_only_what_anyone_may(own_user, job):
    with pytest.raises(psycopg.Error, match="publisher_refused"):
        insert_as(own_user, job, queue=CONTRACTS[job].queue_name)
    insert_as(own_user, "probe", queue="maintenance")

    assert rows('SELECT "job" FROM "Job"') == [("probe",)]


@pytest.mark.parametrize(
    "actor",
    [
        *sorted(RESERVED_ACTORS),
        "cli:root",
        " CLI :root",
        "\uff43li\uff1aroot",
        "cli\u200b:root",
        "\u00a0c\u00adl\u2060i:root",
        "\tcli\n:root",
        "\u017fy\u017ftem",
    ],
)
@pytest.mark.parametrize("role", ["ailydian_app", "ailydian_platform"])
def test_nobody_forges_an_entry_of_ours_by_sql(role, actor, pool):
    payload = json.dumps(AUDIT | {"actor": actor})

    with pytest.raises(psycopg.Error, match="publisher_refused: append_audit") as caught:
        insert_as(role, "append_audit", payload=payload)

    assert caught.value.sqlstate == "AL010"
    assert CONTRACTS["append_audit"].from_payload(json.loads(payload), 1).outside_fault()
    assert rows('SELECT 1 FROM "Job"') == []


@pytest.mark.parametrize("actor", ["ada@example.org", "client:web", "workers-council", "Ğ"])
def test_the_platform_appends_entries_of_its_own_actors_by_sql(pool, actor):
    payload = json.dumps(AUDIT | {"actor": actor})

    insert_as("ailydian_platform", "append_audit", payload=payload, queue="audit")

    assert rows('SELECT "payload" ->> \'actor\' FROM "Job"') == [(actor,)]


# ---- what the page says of a writer to Redis


def test_a_writer_to_every_key_of_redis_can_do_what_the_page_says_and_no_more(run, door, client):
    make_user("acme", "ada")
    put(run, "billing", "--tenant", "acme", "--job", "probe")
    put(run, "default", "--nothing")
    # It is every publisher at once: it has the rights that they have together, ...
    send(client, "k1", stream=f"{DEFAULT}:billing")
    send(client, "k2", stream=f"{DEFAULT}:billing", job="record_message")
    send(client, "k3", stream=f"{DEFAULT}:billing", job="append_audit",
         payload=AUDIT | {"actor": "cli:root"})  # fmt: skip
    send(client, "k4", stream=DEFAULT)
    # ... and can make a publisher hear what is not so.
    client.rpush("ailydian:replies:billing:k5", '{"accepted": true}')

    door()

    assert reply(client, "k1", "billing") == "accepted"
    assert reply(client, "k2", "billing") in {"payload_refused", "publisher_refused"}
    assert reply(client, "k3", "billing") == "publisher_refused"
    assert reply(client, "k4") == "publisher_refused"
    assert reply(client, "k5", "billing") == "accepted"
    assert rows('SELECT "job", "tenantId" FROM "Job"') == [("probe", "acme")]
