"""`ailydian schedule` and `ailydian retention`, as an operator uses them."""

from datetime import timedelta

import pytest

from shared import db
from shared.db import Role
from shared.queries.ledger import attempts
from shared.queries.ledger.attempts import AttemptFailure
from tests.support.commands import document
from tests.support.factories import claim, publish_probe, rows

pytestmark = pytest.mark.usefixtures("acme")


PUT = ("schedule", "put", "nightly", "--tenant", "acme", "--job", "probe", "--cron")


def acts():
    return rows('SELECT "action", "tenantId", "resourceId" FROM "AuditLog" ORDER BY "createdAt"')


def test_a_schedule_is_put_listed_changed_and_deleted_and_each_act_is_noted(run):
    options = ("--tz", "Europe/Istanbul", "--jitter", "30s", "--missed", "all", "--json")

    put = document(run(*PUT, "30 3 * * *", *options, "--payload", '{"note": "n"}'))
    changed = document(run(*PUT, "0 4 * * *", *options, "--disabled"))
    listed = document(run("schedule", "list", "--json"))
    table = run("schedule", "list", "--tenant", "acme")[1]
    gone = document(run("schedule", "delete", "nightly", "--tenant", "acme", "--json"))

    assert (put["tenant"], put["jitterSeconds"], put["missed"]) == ("acme", 30, "all")
    assert put["slotAt"].endswith("T00:30:00Z")
    assert put["payload"] == {"note": "n"}
    assert (changed["id"], changed["enabled"]) == (put["id"], False)
    assert [(one["name"], one["cron"]) for one in listed] == [("nightly", "0 4 * * *")]
    assert "nightly" in table
    assert gone["deleted"] is True
    names = ["schedule.put", "schedule.put", "schedule.delete"]
    assert acts() == [(name, "acme", put["id"]) for name in names]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((*PUT, "61 * * * *"), 2, "Invalid minute '61'"),
        ((*PUT, "* * * * *", "--tz", "Europe/Istambul"), 2, "did you mean Europe/Istanbul?"),
        ((*PUT, "* * * * *", "--payload", '{"x": 1}'), 2, "probe: x:"),
        ((*PUT, "* * * * *", "--jitter", "2h"), 2, "jitter of 7200 s"),
        ((*PUT, "0 0 1 1 *", "--jitter", "2d"), 2, "jitter must be at most 86400 s"),
        (("schedule", "put", "", *PUT[3:], "* * * * *"), 2, "1-100 printable"),
        (("schedule", "delete", "nope", "--tenant", "acme"), 1, "has no schedule 'nope'"),
        (("schedule", "list", "--tenant", "nobody"), 2, "No tenant has the slug"),
        (("retention", "set", "ingest"), 2, "Give --done"),
        (("retention", "set", "nope", "--done", "1d"), 2, "nope"),
    ],
)
def test_what_is_wrong_is_said(run, arguments, code, sentence):
    ran = run(*arguments)

    assert ran[0] == code
    assert sentence in ran[1]
    assert rows('SELECT 1 FROM "Schedule"') == acts() == []


def test_retention_is_listed_set_and_run(run, tmp_path):
    make_dead_letter_of_100_days()

    listed = document(run("retention", "list", "--json"))
    set_ = document(run("retention", "set", "maintenance", "--dead", "90d", "--json"))
    dry = document(run("retention", "run", "--dry-run", "--json"))
    ran = document(run("retention", "run", "--json"))

    by_queue = {one["queue"]: one for one in listed}
    assert by_queue["ingest"]["doneSeconds"] == 30 * 86_400
    assert (set_["deadSeconds"], set_["doneSeconds"]) == (90 * 86_400, 30 * 86_400)
    assert of_maintenance(dry) == of_maintenance(ran) == (0, 1, 0)
    assert dry["files"] == []
    [file] = ran["files"]
    assert file.startswith(str(tmp_path / "archive"))
    assert rows('SELECT 1 FROM "Job"') == []
    assert [name for name, *_ in acts()] == ["retention.set", "retention.run"]


def test_retention_speaks_to_people(run):
    make_dead_letter_of_100_days()

    listed = run("retention", "list")[1]
    kept = run("retention", "set", "maintenance", "--dead", "90d", "--done", "90m")[1]
    ran = run("retention", "run")[1]

    assert "maintenance  30d   180d  30d" in listed
    assert kept == "maintenance: done 90m, dead 90d, quarantined 30d\n"
    assert "1 were deleted." in ran
    assert "archived in " in ran


def of_maintenance(swept):
    [found] = [one for one in swept["queues"] if one["queue"] == "maintenance"]
    return found["done"], found["dead"], found["quarantined"]


def make_dead_letter_of_100_days():
    [lease] = claim(publish_probe("acme"))
    ending = AttemptFailure(lease.job_id, lease.fence, "refused", "Broken", "no good", None, "f")
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.bury(conn, ending, reason="permanent")
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('UPDATE "DeadLetter" SET "diedAt" = now() - %s', [timedelta(days=100)])
