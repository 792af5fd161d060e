"""The webhook of incidents: signed, tried again, in order, and never to where it must not go."""

import hashlib
import hmac
import json
import threading
import time
from itertools import pairwise

import pytest

from producers.operations import incident_webhook
from producers.queries.operations import incident_notices, incidents
from producers.queries.operations.incidents import NewIncident
from shared import db
from shared.db import Role
from shared.egress.signatures import signature
from shared.errors import ConfigurationBroken
from shared.settings import Settings
from tests.support.factories import rows
from tests.support.stub_site import StubSite, answer

pytestmark = pytest.mark.usefixtures("pool")
SECRET = "a secret of two"


def change(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values or None)


def tell(cause="lag:ingest", severity="MEDIUM"):
    new = NewIncident(None, cause, "Geç kaldı", "It has waited.", severity, 61.0)
    with db.transaction(None, role=Role.RELAY) as conn:
        return incidents.raise_incident(conn, new)


def sweep(site=None, **options):
    given = {}
    if site is not None:
        given["incident_webhook_url"] = f"{site.url}/hook"
        given["incident_webhook_secret"] = SECRET
        given["egress_allow"] = f"{site.address}:{site.port}"
    return incident_webhook.sweep(Settings(**(given | options)), threading.Event())


def due_now():
    change("""UPDATE "IncidentNotice" SET "nextAt" = now() WHERE "nextAt" < 'infinity'""")


def read(request):
    """What a receiver reads of a request: its headers in lower case, and its body."""
    head, _, body = request.partition("\r\n\r\n")
    lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
    return {name.lower(): value for name, _, value in lines}, body.encode("latin-1")


def events(site):
    return [json.loads(read(request)[1])["event"] for request in site.requests]


def notices():
    return rows(
        """SELECT "attempts", "sentAt" IS NOT NULL, "error", "nextAt" = 'infinity'
           FROM "IncidentNotice" ORDER BY "createdAt", "id" """
    )


def test_a_receiver_can_check_who_speaks_and_reads_what_is_wrong():
    tell()
    with StubSite(answer(b"", status=204, kind="")) as site:
        assert sweep(site) == 1

    headers, body = read(site.requests[0])
    parts = dict(part.split("=") for part in headers["x-ailydian-signature"].split(","))
    signed = f"{parts['t']}.".encode() + body
    assert parts["v1"] == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(time.time() - int(parts["t"])) < 60
    ((notice_id,),) = rows('SELECT "id" FROM "IncidentNotice"')
    assert headers["x-ailydian-delivery"] == notice_id
    told = json.loads(body)
    assert told["event"] == "incident.opened"
    assert (told["incident"]["title"], told["incident"]["cause"]) == ("Geç kaldı", "lag:ingest")
    assert notices() == [(1, True, None, True)]


def test_one_changed_byte_or_another_time_breaks_the_signature():
    config = Settings(incident_webhook_secret=SECRET)
    secret = config.incident_webhook_secret

    first = signature([secret], b"{}", 1_700_000_000)

    assert first == (
        "t=1700000000,v1=" + hmac.new(SECRET.encode(), b"1700000000.{}", hashlib.sha256).hexdigest()
    )
    assert signature([secret], b"{ }", 1_700_000_000) != first
    assert signature([secret], b"{}", 1_700_000_001) != first


def test_what_was_heard_is_not_said_again():
    tell()
    with StubSite(answer(), answer()) as site:
        assert [sweep(site), sweep(site)] == [1, 0]

    assert len(site.requests) == 1


def test_a_receiver_that_fails_is_tried_again_with_a_growing_pause():
    tell()
    with StubSite(answer(status=500), b"", answer(status=404), answer()) as site:
        waits = []
        for _ in range(4):
            sweep(site)
            waits += [
                wait
                for (wait,) in rows(
                    """SELECT extract(epoch FROM "nextAt" - now())::float FROM "IncidentNotice"
                       WHERE "nextAt" < 'infinity'"""
                )
            ]
            due_now()

    assert len(site.requests) == 4
    assert notices() == [(4, True, None, True)]
    assert [round(wait / 10) for wait in waits] == [1, 2, 4]


def test_a_pause_doubles_up_to_an_hour():
    waits = [incident_webhook.backoff_s(attempts) for attempts in range(1, 100)]

    assert waits[:3] == [10.0, 20.0, 40.0]
    assert waits[-1] == 3_600.0
    assert all(before <= after for before, after in pairwise(waits))


def test_before_its_pause_is_over_nobody_is_asked():
    tell()
    with StubSite(answer(status=500), answer()) as site:
        assert [sweep(site), sweep(site)] == [0, 0]

    assert len(site.requests) == 1
    ((attempts, is_sent, error, _),) = notices()
    assert (attempts, is_sent, error) == (1, False, "127.0.0.1 answered with 500.")


def test_notices_of_one_incident_come_in_their_order_though_the_first_failed():
    tell()
    tell(severity="HIGH")
    tell(severity="CRITICAL")
    with StubSite(answer(status=503), *[answer()] * 3) as site:
        sweep(site)
        held_back = sweep(site)
        due_now()
        rest = sweep(site)

    assert (held_back, rest) == (0, 3)
    opened, escalated = "incident.opened", "incident.escalated"
    assert events(site) == [opened, opened, escalated, escalated]


def test_another_incident_does_not_wait_for_one_that_nobody_hears():
    tell("lag:ingest")
    with StubSite(answer(status=503), answer()) as site:
        sweep(site)
        tell("lag:audit")
        assert sweep(site) == 1

    assert sorted(sent for _, sent, _, _ in notices()) == [False, True]


def test_a_notice_is_given_up_after_a_day_and_the_next_one_goes():
    tell()
    tell(severity="HIGH")
    change(
        """UPDATE "IncidentNotice" SET "createdAt" = "createdAt" - interval '1 day'
           WHERE "event" = 'opened'"""
    )
    with StubSite(answer(status=500), answer()) as site:
        sweep(site)
        sweep(site)

    assert events(site) == ["incident.opened", "incident.escalated"]
    assert [(sent, given_up) for _, sent, _, given_up in notices()] == [(False, True), (True, True)]


def test_who_dies_while_posting_has_it_posted_again_by_another():
    tell()
    with db.transaction(None, role=Role.RELAY) as conn:
        assert incident_notices.claim_next(conn, lease_s=incident_webhook.LEASE_S) is not None

    with StubSite(answer()) as site:
        meanwhile = sweep(site)
        change("""UPDATE "IncidentNotice" SET "nextAt" = "nextAt" - interval '61 s'""")
        afterwards = sweep(site)

    assert (meanwhile, afterwards) == (0, 1)


def test_without_a_webhook_notices_wait_a_day_and_are_deleted():
    tell()

    assert sweep() == 0
    kept = notices()
    change("""UPDATE "IncidentNotice" SET "createdAt" = now() - interval '26 hours'""")
    sweep()

    assert kept == [(0, False, None, False)]
    assert notices() == []


def test_what_was_heard_is_kept_for_a_month():
    tell()
    with StubSite(answer()) as site:
        sweep(site)
    change("""UPDATE "IncidentNotice" SET "createdAt" = now() - interval '29 days'""")
    sweep()
    kept = notices()
    change("""UPDATE "IncidentNotice" SET "createdAt" = now() - interval '31 days'""")
    sweep()

    assert len(kept) == 1
    assert notices() == []


def test_a_webhook_without_a_secret_is_refused():
    tell()

    with pytest.raises(ConfigurationBroken, match="AILYDIAN_INCIDENT_WEBHOOK_SECRET"):
        sweep(incident_webhook_url="https://example.org/hook")


def test_an_address_inside_is_not_gone_to_unless_it_is_allowed():
    tell()
    with StubSite(answer()) as site:
        assert sweep(site, egress_allow="") == 0

    assert site.connections == 0
    ((_, is_sent, error, _),) = notices()
    assert not is_sent
    assert "127.0.0.1" in error


def test_no_connection_to_postgres_is_held_while_the_receiver_thinks(database_url):
    db.open_pool(database_url, size=1)
    tell()
    seen = []

    def think(sock):
        seen.append(notices())
        sock.sendall(answer())

    with StubSite(think) as site:
        assert sweep(site) == 1

    assert seen == [[(1, False, None, False)]]


def test_a_sweep_that_is_told_to_stop_posts_nothing():
    tell()
    stop = threading.Event()
    stop.set()
    with StubSite(answer()) as site:
        config = Settings(
            incident_webhook_url=site.url,
            incident_webhook_secret=SECRET,
            egress_allow=f"{site.address}:{site.port}",
        )
        assert incident_webhook.sweep(config, stop) == 0

    assert site.connections == 0
