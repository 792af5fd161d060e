"""`ailydian incidents`, as an operator uses it."""

import json

from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from shared import db
from shared.db import Role
from tests.support.commands import document
from tests.support.factories import make_tenant, rows


def wrong(cause, tenant=None, severity="MEDIUM"):
    new = NewIncident(tenant, cause, f"Wrong: {cause}", "It is so.", severity, 1.0)
    with db.transaction(None, role=Role.RELAY) as conn:
        incidents.raise_incident(conn, new)
    ((found,),) = rows('SELECT "id" FROM "Incident" ORDER BY "id" DESC LIMIT 1')
    return found


def acts():
    return rows(
        'SELECT "action", "tenantId", "resourceId", "metadata" FROM "AuditLog" ORDER BY "id"'
    )


def test_incidents_are_listed_by_whose_they_are_and_whether_they_are_over(run):
    acme = make_tenant("acme")
    of_system, of_tenant = wrong("lag:ingest"), wrong("budget:b1", acme)
    document(run("incidents", "close", of_system, "--reason", "mended", "--json"))

    def listed(*options):
        return [one["id"] for one in document(run("incidents", "list", *options, "--json"))]

    assert listed() == [of_tenant, of_system]
    assert listed("--tenant", "acme") == [of_tenant]
    assert listed("--system") == [of_system]
    assert listed("--open") == [of_tenant]
    assert "Wrong: budget:b1" in run("incidents", "list")[1]
    assert run("incidents", "list", "--system", "--tenant", "acme")[0] == 2


def test_an_incident_is_taken_and_closed_and_each_act_is_noted(run):
    acme = make_tenant("acme")
    incident = wrong("budget:b1", acme)

    taken = document(run("incidents", "take", incident, "--json"))
    closed = document(run("incidents", "close", incident, "--reason", "limit raised", "--json"))

    assert (taken["status"], closed["status"]) == ("INVESTIGATING", "CLOSED")
    assert closed["reason"] == "limit raised"
    assert closed["handledBy"].startswith("cli:")
    first, second = acts()
    assert first[:3] == ("incident.take", acme, incident)
    assert (first[3]["before"], first[3]["after"]) == ("OPEN", "INVESTIGATING")
    assert second[:3] == ("incident.close", acme, incident)
    assert (second[3]["after"], second[3]["reason"]) == ("CLOSED", "limit raised")


def test_show_has_what_was_told(run):
    incident = wrong("lag:ingest")
    document(run("incidents", "close", incident, "--reason", "mended", "--json"))

    shown = document(run("incidents", "show", incident, "--json"))
    page = run("incidents", "show", incident)[1]

    assert [one["event"] for one in shown["notices"]] == ["opened", "resolved"]
    assert shown["description"] == "It is so."
    assert "lag:ingest" in page
    assert "resolved" in page


def test_what_is_over_or_unknown_is_refused_and_noted_nowhere(run):
    incident = wrong("lag:ingest")
    document(run("incidents", "close", incident, "--reason", "mended", "--json"))
    before = acts()

    again = run("incidents", "close", incident, "--reason", "mended")
    taken = run("incidents", "take", incident)
    unknown = run("incidents", "show", "nobody")
    empty = run("incidents", "close", incident, "--reason", " ")

    assert (again[0], taken[0], unknown[0], empty[0]) == (1, 1, 1, 2)
    assert "is closed already" in again[1]
    assert "No incident has the id nobody" in unknown[1]
    assert acts() == before


def test_a_reason_is_noted_without_the_secrets_in_it(run):
    incident = wrong("lag:ingest")

    run("incidents", "close", incident, "--reason", "key sk-proj-abcdefghijklmnopqrstuvwx1234")

    assert "sk-proj-abcdefgh" not in json.dumps(acts()[0][3])


def test_status_counts_what_is_open(run):
    wrong("lag:ingest")
    closed = wrong("lag:audit")
    document(run("incidents", "close", closed, "--reason", "mended", "--json"))

    page = document(run("status", "--json"))

    assert page["incidents"] == 1
    assert "1 incidents open" in run("status")[1]
