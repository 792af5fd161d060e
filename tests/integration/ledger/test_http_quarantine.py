"""/v1/quarantine: what the commands can, for those of all tenants alone."""

import base64
import hashlib
import json

import pytest

from shared import db
from shared.db import Role
from shared.ledger.wakeups import Wire, connect
from shared.queries.ledger import quarantines
from shared.queries.ledger.quarantines import BadMessage
from tests.support import factories
from tests.support.factories import make_user, publish_probe, rows
from tests.support.http_api import make_key


@pytest.fixture
def key(pool):
    """A key of one who may act for all tenants."""
    scopes = ("quarantine:read", "quarantine:write")
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *scopes)


@pytest.fixture
def client(redis_url):
    with connect(redis_url) as client:
        yield client


def keep(*contents, queue="maintenance", reason="not_json", kept=1_000):
    """Quarantine messages. Returns their ids, oldest first."""
    for content in contents:
        digest = hashlib.sha256(content).hexdigest()
        one = BadMessage(reason, content[:kept], len(content), digest)
        with db.transaction(None, role=Role.RELAY) as conn:
            quarantines.insert_quarantined(conn, queue, [one])
    return [row[0] for row in rows('SELECT "id" FROM "Quarantine" ORDER BY "receivedAt", "id"')]


def left():
    return {bytes(row[0]) for row in rows('SELECT "message" FROM "Quarantine"')}


def acts():
    return rows(
        """SELECT "action", "userId", "metadata" FROM "AuditLog" WHERE "resource" = 'Quarantine'
           ORDER BY "createdAt", "id" """
    )


def test_messages_are_listed_in_pages_and_shown_with_their_bytes(api, key):
    ids = keep(*(f"bad {n}".encode() for n in range(5)))
    seen, path = [], "/v1/quarantine?limit=2"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += page["items"]
        path = page["next"] and f"/v1/quarantine?limit=2&after={page['next']}"
    shown = api.ask("GET", f"/v1/quarantine/{ids[0]}", key=key).document

    assert [one["id"] for one in seen] == ids[::-1]
    assert base64.b64decode(shown.pop("message")) == b"bad 0"
    assert shown == seen[-1]
    assert api.ask("GET", "/v1/quarantine?error=%5Ewrong", key=key).document["items"] == []
    assert api.ask("GET", "/v1/quarantine?error=(", key=key).code == "regex_refused"


def test_many_are_sent_once_as_they_are_and_what_cannot_be_stays(api, key, client):
    keep(b"one", b"two")
    keep(b"long and longer", kept=4)
    asked = {"key": key, "body": {"queue": "maintenance"}, "Idempotency_Key": "x"}
    counted = api.ask("POST", "/v1/quarantine/replay", key=key, body={"all": True, "dryRun": True})
    first = api.ask("POST", "/v1/quarantine/replay", **asked)
    again = api.ask("POST", "/v1/quarantine/replay", **asked)

    assert counted.document == {"matched": 3, "replayed": 0, "more": False}
    assert first.document == {"matched": 3, "replayed": 2, "more": False}
    assert again.body == first.body
    assert sorted(client.lrange("ailydian:queue:maintenance", 0, -1)) == [b"one", b"two"]
    assert left() == {b"long"}
    [(action, who, what)] = acts()
    assert (action, who[:8], what["count"]) == ("quarantine.replay", "key:aly_", 2)


def test_many_are_discarded_up_to_a_limit_and_more_is_told(api, key):
    keep(*(f"bad {n}".encode() for n in range(5)))
    keep(b"other", queue="audit")
    body = {"queue": "maintenance", "limit": 3}
    found = [api.ask("POST", "/v1/quarantine/discard", key=key, body=body) for _ in range(2)]

    assert [one.document for one in found] == [
        {"matched": 3, "discarded": 3, "more": True},
        {"matched": 2, "discarded": 2, "more": False},
    ]
    assert left() == {b"other"}
    assert api.ask("POST", "/v1/quarantine/discard", key=key, body={}).code == "nothing_chosen"


def test_one_is_edited_into_a_wakeup_that_we_signed_and_sent(api, acme, key, client):
    job_id = publish_probe(acme)
    [message_id] = keep(b'{"job": "torn')
    path = f"/v1/quarantine/{message_id}"
    wrong = api.ask("PATCH", path, key=key, body={"message": {"job": "nobody", "attempt": 0}})
    edited = api.ask("PATCH", path, key=key, body={"message": {"job": job_id, "attempt": 0}})
    sent = api.ask("POST", f"{path}/replay", key=key, Idempotency_Key="x")
    again = api.ask("POST", f"{path}/replay", key=key, Idempotency_Key="x")
    gone = api.ask("POST", f"{path}/replay", key=key)

    assert (wrong.status, wrong.code) == (422, "payload_refused")
    assert edited.document == {"id": message_id, "edited": True}
    assert sent.document == {"id": message_id, "replayed": True}
    assert again.body == sent.body
    assert (gone.status, gone.code) == (404, "job_not_found")
    [wakeup] = client.lrange("ailydian:queue:maintenance", 0, -1)
    assert Wire("ailydian", factories.KEY).read("maintenance", wakeup) == (job_id, 0)
    assert [action for action, _, _ in acts()] == ["quarantine.edit", "quarantine.replay"]


def test_one_that_cannot_be_sent_says_why_and_is_discarded(api, key):
    [message_id] = keep(b"long and longer", kept=4)
    path = f"/v1/quarantine/{message_id}"
    refused = api.ask("POST", f"{path}/replay", key=key)
    done = api.ask("POST", f"{path}/discard", key=key)

    assert (refused.status, refused.code) == (409, "message_unsendable")
    assert "stored truncated" in refused.document["detail"]
    assert done.document == {"id": message_id, "discarded": True}
    assert left() == set()


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "", None, "quarantine:read"),
        ("GET", "/x", None, "quarantine:read"),
        ("PATCH", "/x", {"message": {}}, "quarantine:write"),
        ("POST", "/x/replay", None, "quarantine:write"),
        ("POST", "/x/discard", None, "quarantine:write"),
        ("POST", "/replay", {"all": True}, "quarantine:write"),
        ("POST", "/discard", {"all": True}, "quarantine:write"),
    ],
)
def test_each_act_needs_its_scope_which_no_tenant_has(api, acme, method, path, body, scope):
    keep(b"one")
    root = make_user(None, "root", role="SUPER_ADMIN")
    [other] = {"quarantine:read", "quarantine:write"} - {scope}
    bob = make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read")
    with db.transaction(None, role=Role.OWNER) as conn:  # as the platform could write it
        scopes = json.dumps(["quarantine:read", "quarantine:write"])
        conn.execute(
            """UPDATE "ApiKey" SET "scopes" = ARRAY(SELECT jsonb_array_elements_text(%s::jsonb))
               WHERE "userId" = 'bob'""",
            [scopes],
        )

    for refused in (make_key(None, root, other), bob):
        reply = api.ask(method, f"/v1/quarantine{path}", key=refused, body=body)
        assert (reply.status, reply.code) == (403, "scope_missing")
    having = make_key(None, root, scope)
    assert left() == {b"one"}
    assert api.ask(method, f"/v1/quarantine{path}", key=having, body=body).status != 403
