"""Webhooks: each event a tenant asked for is posted once, signed, and again until it is taken."""

import hashlib
import hmac
import json
import threading
import time

import pytest

from producers.accounts.scopes import ScopesRefused
from producers.ledger import batches, event_counters, webhooks
from producers.ledger.webhooks import WebhookNotFound, WebhookRefused
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.errors import AddressRefused
from tests.support import factories
from tests.support.factories import environment, make_tenant, make_user, publish_probe, rows
from tests.support.http_api import make_key
from tests.support.stub_site import StubSite, answer
from workers.actors.webhooks import WebhookFailed
from workers.process.broker import signing_key

pytestmark = pytest.mark.usefixtures("pool")
KEY = "k" * 40


@pytest.fixture
def site():
    """A receiver that may be reached, and the signing key that every process has."""
    with (
        StubSite() as running,
        environment(
            AILYDIAN_EGRESS_ALLOW=f"{running.address}:{running.port}", AILYDIAN_SIGNING_KEY=KEY
        ),
    ):
        signing_key.cache_clear()
        yield running
    signing_key.cache_clear()


def hook(tenant, site, *events, jobs=()):
    return webhooks.create(tenant, f"{site.url}/hook", events=events, jobs=jobs)


def sweep():
    """Place what happened, as the relay does, and publish its deliveries."""
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)
    return webhooks.sweep(threading.Event())


def deliver(*answers, site):
    """Do the deliveries that wait."""
    site.answers.extend(answers)
    for lease in factories.claim(*factories.waiting("deliver_webhook")):
        factories.do(lease)


def done(tenant, **fields):
    """A probe that is done."""
    job_id = publish_probe(tenant, mode="receipt", **fields)
    for lease in factories.claim(job_id):
        factories.do(lease)
    return job_id


def posted(site):
    """The events that the receiver was sent, with their headers."""
    found = []
    for request in site.requests:
        head, _, body = request.partition("\r\n\r\n")
        lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
        found.append(({name.lower(): value for name, _, value in lines}, body))
    return found


def is_signed(secret, headers, body):
    parts = [part.split("=") for part in headers["x-ailydian-signature"].split(",")]
    [at] = [value for name, value in parts if name == "t"]
    assert abs(time.time() - int(at)) < 300
    digest = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return digest in [value for name, value in parts if name == "v1"]


def test_an_event_is_posted_once_with_a_signature_its_receiver_can_check(acme, site):
    made = hook(acme, site, "COMPLETED")
    sweep()
    job_id = done(acme)

    assert [sweep(), sweep()] == [1, 0]
    deliver(answer(), site=site)
    assert [sweep(), sweep()] == [0, 0], "a delivery is no event that is delivered"

    [(headers, body)] = posted(site)
    assert is_signed(made.secret, headers, body)
    assert not is_signed(made.secret + "x", headers, body)
    event = json.loads(body)
    assert (event["what"], event["jobId"], event["job"]) == ("COMPLETED", job_id, "probe")
    assert event["tenantId"] == acme
    assert rows("""SELECT "state", "outcome" FROM "Job" WHERE "job" = 'deliver_webhook'""") == [
        ("COMPLETED", {"status": 200})
    ]


def test_only_what_was_asked_for_since_it_was_asked_is_posted(acme, site):
    other = make_tenant("other")
    done(acme)
    hook(acme, site, "DEAD", "COMPLETED", jobs=["probe_batch"])
    hook(other, site, "DEAD")
    done(acme)
    done(other)

    assert sweep() == 0
    hook(acme, site, "COMPLETED")
    done(acme)
    assert sweep() == 1


def test_kinds_of_jobs_leave_events_of_steps_and_batches_alone(acme, site):
    hook(acme, site, "BATCH_FINISHED", "COMPLETED", jobs=["no_such_kind"])
    with db.transaction(acme) as conn:
        batches.publish_batch(conn, [Probe(n=1, mode="receipt")], name="deliver_webhook")
    for lease in factories.claim(*factories.waiting("probe")):
        factories.do(lease)

    assert sweep() + sweep() == 1


def test_what_is_not_taken_fails_its_attempt(acme, site):
    hook(acme, site, "COMPLETED")
    done(acme)
    sweep()

    with pytest.raises(WebhookFailed, match="answered with 503") as failed:
        deliver(answer(status=503, Retry_After="7"), site=site)

    assert failed.value.retry_after_s == 7
    assert rows("""SELECT "state" FROM "Job" WHERE "job" = 'deliver_webhook'""") == [("RUNNING",)]


def test_both_secrets_sign_for_a_day_after_a_rotation(acme, site):
    made = hook(acme, site, "COMPLETED")
    newer = webhooks.rotate(acme, made.id)
    for _ in range(2):
        done(acme)
    sweep()
    assert newer.secret != made.secret
    [first, second] = factories.waiting("deliver_webhook")
    site.answers.append(answer())
    factories.do(factories.claim(first)[0])
    rows("""UPDATE "Webhook" SET "rotatedAt" = now() - interval '25 hours' RETURNING 1""")
    site.answers.append(answer())
    factories.do(factories.claim(second)[0])

    [(early, early_body), (late, late_body)] = posted(site)
    assert is_signed(made.secret, early, early_body)
    assert is_signed(newer.secret, early, early_body)
    assert not is_signed(made.secret, late, late_body)
    assert is_signed(newer.secret, late, late_body)


def test_a_disabled_or_deleted_webhook_is_not_posted_to(acme, site):
    kept, gone = (hook(acme, site, "COMPLETED") for _ in range(2))
    done(acme)
    assert sweep() == 2
    with db.transaction(acme) as conn:
        webhooks.enable(conn, acme, kept.id, enabled=False)
        webhooks.delete(conn, acme, gone.id)
    deliver(site=site)
    done(acme)

    assert sweep() == 0
    assert posted(site) == []


def test_several_sweeps_at_once_publish_each_delivery_once(acme, site):
    hook(acme, site, "COMPLETED")
    sweep()
    for _ in range(20):
        done(acme)
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)
    threads = [threading.Thread(target=webhooks.sweep, args=(threading.Event(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sweep()

    assert len(factories.waiting("deliver_webhook")) == 20


def test_an_address_that_is_not_allowed_is_refused(acme):
    with pytest.raises(AddressRefused, match="not public"):
        webhooks.create(acme, "https://169.254.169.254/x", events=["DEAD"], jobs=[])


def test_tenants_have_webhooks_of_their_own_and_only_so_many(acme, site):
    other = make_tenant("other")
    made = hook(acme, site, "DEAD")
    for act in (webhooks.rotate, webhooks.show):
        with pytest.raises(WebhookNotFound):
            act(other, made.id)
    with pytest.raises(WebhookNotFound), db.transaction(other) as conn:
        webhooks.delete(conn, other, made.id)
    for _ in range(webhooks.WEBHOOKS_MAX - 1):
        hook(acme, site, "DEAD")
    with pytest.raises(WebhookRefused):
        hook(acme, site, "DEAD")


def test_the_api_and_the_commands_do_the_same(api, run, acme, site):
    key = make_key(acme, make_user(acme, "bob", role="ADMIN"), "webhooks:read", "webhooks:write")
    body = {"url": f"{site.url}/hook", "events": ["DEAD"]}
    made = api.ask("POST", "/v1/webhooks", key=key, body=body)
    path = f"/v1/webhooks/{made.document['id']}"
    inward = api.ask("POST", "/v1/webhooks", key=key, body=body | {"url": "https://10.0.0.1/"})

    assert (inward.status, inward.code) == (422, "address_refused")
    with pytest.raises(ScopesRefused):  # an address often has a secret in it
        make_key(acme, make_user(acme, "eve", role="USER"), "webhooks:read")
    assert (made.status, made.document["secret"][:6]) == (201, "whsec_")
    [listed] = api.ask("GET", "/v1/webhooks", key=key).document["items"]
    code, printed = run("webhooks", "list", "--json")
    assert (code, json.loads(printed)) == (0, [listed])
    changed = api.ask("PATCH", path, key=key, body={"enabled": False})
    assert changed.document == listed | {"enabled": False}
    assert api.ask("POST", f"{path}/rotate", key=key).document["secret"] != made.document["secret"]
    assert run("webhooks", "delete", made.document["id"], "--tenant", "acme")[0] == 0
    assert api.ask("GET", path, key=key).code == "webhook_not_found"
    actions = rows("""SELECT "action" FROM "AuditLog" WHERE "resource" = 'Webhook'""")
    assert sorted(actions) == [
        (f"webhook.{what}",) for what in ("create", "delete", "disable", "rotate")
    ]


def test_a_finished_batch_is_posted_under_its_own_id(acme, site):
    hook(acme, site, "BATCH_FINISHED")
    with db.transaction(acme) as conn:
        batch = batches.publish_batch(conn, [Probe(n=1, mode="receipt")], name="nightly")
    for lease in factories.claim(*factories.waiting("probe")):
        factories.do(lease)
    assert sweep() + sweep() == 1
    deliver(answer(), site=site)

    [(_, body)] = posted(site)
    event = json.loads(body)
    assert (event["what"], event["jobId"], event["job"]) == ("BATCH_FINISHED", batch.id, "nightly")
