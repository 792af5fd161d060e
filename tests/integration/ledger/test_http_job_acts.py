"""/v1/jobs: many cancelled by filters, and one explained; of one's own tenant alone."""

import threading

import pytest

from producers.ledger import bulk_actions
from shared.contracts import Probe
from tests.support.factories import claim, job, make_tenant, make_user, publish_jobs, publish_probe
from tests.support.http_api import make_key


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with jobs."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read", "jobs:write")


def states(ids):
    return [job(job_id)["state"] for job_id in ids]


def test_all_that_match_are_cancelled_and_nothing_of_others(api, acme, key):
    ours = [publish_probe(acme) for _ in range(3)]
    claim(ours[0])
    theirs = publish_probe(make_tenant("globex"))
    body = {"queue": "maintenance", "job": "probe"}
    counted = api.ask("POST", "/v1/jobs/cancel", key=key, body=body | {"dryRun": True})
    reply = api.ask("POST", "/v1/jobs/cancel", key=key, body=body, Idempotency_Key="x")
    again = api.ask("POST", "/v1/jobs/cancel", key=key, body=body, Idempotency_Key="x")

    assert counted.document == {"matched": 3, "dryRun": True}
    assert (reply.status, reply.document["state"], reply.document["done"]) == (202, "DONE", 3)
    assert again.body == reply.body
    assert api.ask("GET", reply.headers["location"], key=key).document == reply.document
    assert states(ours) == ["CANCELLED"] * 3
    assert states([theirs]) == ["PENDING"]


def test_more_than_a_page_is_cancelled_in_the_background_but_nothing_newer(
    api, acme, key, monkeypatch
):
    monkeypatch.setattr("producers.ledger.dead_selection.PAGE", 2)
    ids = [publish_probe(acme) for _ in range(5)]
    reply = api.ask("POST", "/v1/jobs/cancel", key=key, body={"all": True})
    newer = publish_probe(acme)
    bulk_actions.run_due(threading.Event())

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert reply.document["state"] == "RUNNING"
    assert (shown["state"], shown["done"]) == ("DONE", 5)
    assert states(ids) == ["CANCELLED"] * 5
    assert states([newer]) == ["PENDING"]
    assert len(api.ask("GET", "/v1/jobs/actions", key=key).document["items"]) == 1


def test_nothing_chosen_is_nothing_cancelled(api, acme, key):
    job_id = publish_probe(acme)
    assert api.ask("POST", "/v1/jobs/cancel", key=key, body={}).code == "nothing_chosen"
    assert states([job_id]) == ["PENDING"]


def test_a_job_is_explained_as_the_command_explains_it(api, acme, key, run):
    [job_id] = publish_jobs(acme, [Probe(n=1)], delay_s=3_600)
    explained = api.ask("GET", f"/v1/jobs/{job_id}/why", key=key)
    told = run("jobs", "why", job_id, "--json")

    assert explained.document["waits"].endswith("UTC (delay)")
    assert explained.body.decode().strip() == told[1].strip()


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/x/why", "jobs:read"),
        ("GET", "/actions", "jobs:read"),
        ("GET", "/actions/x", "jobs:read"),
        ("POST", "/actions/x/stop", "jobs:write"),
        ("POST", "/cancel", "jobs:write"),
    ],
)
def test_each_act_needs_its_scope_and_others_jobs_do_not_exist(api, acme, method, path, scope):
    theirs = publish_probe(make_tenant("globex"))
    [other] = {"jobs:read", "jobs:write"} - {scope}
    ada = make_user(acme, "ada", role="ADMIN")
    body = {"all": True} if path == "/cancel" else None
    path = path.replace("/x/", f"/{theirs}/")

    assert (
        api.ask(method, f"/v1/jobs{path}", key=make_key(acme, ada, other), body=body).status == 403
    )
    done = api.ask(method, f"/v1/jobs{path}", key=make_key(acme, ada, scope), body=body)
    assert done.status in ({200, 202} if path in {"/actions", "/cancel"} else {404})
    assert states([theirs]) == ["PENDING"]
