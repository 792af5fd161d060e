"""Kept answers of the HTTP API: how long they are kept."""

import threading

from producers.ledger import scheduler
from shared import db
from shared.db import Role
from tests.support.factories import make_user, rows
from tests.support.http_api import make_key


def test_answers_are_kept_for_a_day(api, acme):
    key = make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:write")
    for name in ("old", "new"):
        body = {"job": "probe", "payload": {}}
        api.ask("POST", "/v1/jobs", key=key, body=body, Idempotency_Key=name)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """UPDATE "HttpAnswer" SET "createdAt" = now() - interval '25 hours'
               WHERE "key" = 'old'"""
        )
    scheduler.put_sweep("answers")
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "Schedule" SET "nextAt" = now()""")

    assert scheduler.sweep_if_due("answers", threading.Event())
    assert rows('SELECT "key" FROM "HttpAnswer"') == [("new",)]
