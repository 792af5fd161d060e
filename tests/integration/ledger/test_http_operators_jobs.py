"""An operators' job that is published over HTTP is an act: the audit log has who published it."""

import json

import pytest

from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import make_key

NOTED = """SELECT "tenantId", "userId", "action", "resourceId", "metadata" FROM "AuditLog"
           WHERE "action" IN ('job.publish', 'batch.publish') ORDER BY "id" """
JOB = {"job": "analyse_conversation", "payload": {"conversation_id": "c1"}}


@pytest.fixture
def root(pool):
    """A SUPER_ADMIN's key of all tenants."""
    make_tenant("acme")
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), "jobs:write")


def noted():
    return [tuple(row) for row in rows(NOTED)]


def test_one_is_noted_once_with_its_publisher(api, root):
    first = api.ask("POST", "/v1/jobs?tenant=acme", key=root, body=JOB)
    api.ask("POST", "/v1/jobs?tenant=acme", key=root, body=JOB)  # a duplicate
    api.ask("POST", "/v1/jobs?tenant=acme", key=root, body={"job": "probe", "payload": {"n": 1}})

    assert first.status == 202
    [(tenant, who, action, job, what)] = noted()
    assert (tenant, action, job) == ("acme", "job.publish", first.document["id"])
    assert who.startswith("key:")
    assert what == {"job": "analyse_conversation"}


def test_each_of_many_is_noted(api, root):
    lines = "\n".join(
        json.dumps(one) for one in (JOB, {"job": "probe", "payload": {"n": 1}})
    ).encode()
    reply = api.ask(
        "POST",
        "/v1/jobs?tenant=acme",
        key=root,
        body=lines,
        **{"Content-Type": "application/x-ndjson"},
    )

    assert [job for _, _, _, job, _ in noted()] == [reply.document["items"][0]["id"]]


def test_a_batch_and_what_is_added_to_it_are_noted(api, root):
    body = {"name": "b", "job": JOB["job"], "jobs": [{"payload": JOB["payload"]}], "open": True}
    made = api.ask("POST", "/v1/batches?tenant=acme", key=root, body=body)
    assert made.status == 202, made.document
    more = {"jobs": [{"job": JOB["job"], "payload": {"conversation_id": "c2"}}]}
    api.ask("POST", f"/v1/batches/{made.document['id']}/jobs?tenant=acme", key=root, body=more)

    kinds = {"jobs": ["analyse_conversation"]}
    assert [(action, what) for _, _, action, _, what in noted()] == [("batch.publish", kinds)] * 2
