"""`ailydian tenant`, `user`, `trust` and `models`, as people use them, and what is audited."""

import json

import pytest

from shared.contracts import AppendAudit
from tests.support.commands import document
from tests.support.factories import claim, do, make_tenant, publish_jobs, rows

MODEL = ("--provider", "openai", "--context-window", "1000", "--in", "0.001", "--out", "0.002")


def acts():
    return rows('SELECT "action", "resource", "metadata" FROM "AuditLog" ORDER BY "id"')


def test_tenants_and_people_are_made_changed_and_audited(run):
    document(run("tenant", "create", "acme", "--json"))
    document(run("tenant", "create", "acme", "--json"))
    document(run("tenant", "create", "acme", "--tier", "PRO", "--json"))
    document(run("user", "create", "ada@example.org", "--tenant", "acme", "--json"))
    document(run("user", "create", "ada@example.org", "--tenant", "acme", "--json"))

    (made, _, first), (changed, _, what), (person, *_) = acts()
    assert (made, changed, person) == ("tenant.create", "tenant.change", "user.create")
    assert first["before"] is None
    assert (what["before"]["tier"], what["after"]["tier"]) == ("FREE", "PRO")
    assert "ada@example.org" not in json.dumps([what for *_, what in acts()])


def test_preferences_are_kept_merged_cleared_and_shown(run):
    document(run("tenant", "create", "acme", "--json"))
    document(run("user", "create", "ada@example.org", "--tenant", "acme", "--json"))
    ada = ("ADA@example.org", "--tenant", "acme", "--json")

    document(run("user", "prefer", *ada, "--model", "local-extractive", "--temperature", "0.2"))
    kept = document(run("user", "prefer", *ada, "--max-tokens", "200"))
    shown = document(run("user", "show", *ada))
    cleared = document(run("user", "prefer", *ada, "--clear"))

    assert (kept["model"], kept["temperature"], kept["tokensMax"]) == ("local-extractive", 0.2, 200)
    assert shown["preferences"]["model"] == "local-extractive"
    assert (cleared["model"], cleared["temperature"]) == (None, None)
    assert [action for action, *_ in acts()].count("user.prefer") == 3
    code, output = run("user", "prefer", *ada, "--model", "gpt-77")
    assert (code, "no model 'gpt-77'" in output) == (2, True)
    code, output = run("user", "prefer", *ada, "--temperature", "nan")
    assert (code, "not a valid number" in output) == (2, True)


def test_trust_is_shown_listed_and_recomputed(run):
    document(run("tenant", "create", "acme", "--json"))
    document(run("user", "create", "ada@example.org", "--tenant", "acme", "--json"))
    before = document(run("trust", "show", "ada@example.org", "--tenant", "acme", "--json"))
    asked = document(run("trust", "recompute", "--tenant", "acme", "--json"))
    do(*claim(asked["id"]))
    after = document(run("trust", "show", "ada@example.org", "--tenant", "acme", "--json"))
    (listed,) = document(run("trust", "list", "--tenant", "acme", "--json"))

    assert (before["score"], before["rateWeight"]) == (0.5, 1)
    assert sum(after["factors"].values()) == pytest.approx(after["score"])
    assert listed["email"] == "ada@example.org"
    assert document(run("trust", "list", "--tenant", "acme", "--below", "0.2", "--json")) == []


def test_a_model_is_put_changed_disabled_and_audited(run):
    code, output = run("models", "put", "mine", "--json")
    assert (code, "is new: it needs --provider" in output) == (2, True)
    made = document(run("models", "put", "mine", *MODEL, "--json"))
    changed = document(run("models", "put", "mine", "--in", "0.003", "--disabled", "--json"))
    document(run("models", "put", "mine", "--in", "0.003", "--json"))
    document(run("models", "provider", "openai", "--disabled", "--json"))

    assert (made["costIn"], made["enabled"]) == ("0.00100000", True)
    assert (changed["costIn"], changed["costOut"]) == ("0.00300000", "0.00200000")
    enabled = document(run("models", "list", "--enabled", "--json"))
    assert {one["provider"] for one in enabled} == {"local"}
    (put, _, first), (again, _, what), (provider, *_) = acts()
    assert (put, again, provider) == ("model.put", "model.put", "provider.put")
    assert first["before"] is None
    assert (what["before"]["costIn"], what["after"]["costIn"]) == ("0.00100000", "0.00300000")


def test_a_provider_that_nobody_put_is_named(run):
    code, output = run("models", "put", "x", "--provider", "nobody", *MODEL[2:])

    assert (code, "no provider 'nobody'" in output) == (2, True)
    code, output = run("models", "put", "x", "--provider", "openai", "--in", "NaN")
    assert code == 2


def test_an_operators_publish_is_audited_once(run):
    document(run("tenant", "create", "acme", "--json"))
    for _ in range(2):
        document(
            run("publish", "probe", "--tenant", "acme", "--payload", '{"note": "secret"}', "--json")
        )

    ((_, resource, what),) = [act for act in acts() if act[0] == "job.publish"]
    assert (resource, what) == ("Job", {"job": "probe"})


def test_an_entry_of_the_log_is_appended_by_a_job_once(pool):
    tenant = make_tenant()
    entry = {
        "action": "login.fail",
        "resource": "Session",
        "actor": "web",
        "entry_id": "e1",
        "ip_address": "10.0.0.1",
        "user_agent": "Firefox",
    }
    first = publish_jobs(tenant, [AppendAudit(**entry)])
    assert publish_jobs(tenant, [AppendAudit(**entry)]) == first
    do(*claim(*first))

    assert rows('SELECT "action", "ipAddress", "userAgent", "tenantId" FROM "AuditLog"') == [
        ("login.fail", "10.0.0.1", "Firefox", tenant)
    ]


def test_an_entry_that_is_appended_by_a_job_has_no_secrets_and_no_personal_data(pool):
    tenant = make_tenant()
    what = {
        "email": "fatma.demir@example.org",
        "iban": "TR330006100519786457841326",
        "password": "Hunter2-SECRET",
        "said": "call 0532 123 45 67 or write to fatma.demir@example.org",
        "count": 3,
    }
    entry = {"action": "x", "resource": "User", "actor": "web", "entry_id": "e1"}
    agent = "Firefox Bearer sk-live-abcdefghijklmnop1234567890"
    do(*claim(*publish_jobs(tenant, [AppendAudit(**entry, what=what, user_agent=agent)])))

    ((kept, by),) = rows('SELECT "metadata", "userAgent" FROM "AuditLog"')
    assert kept["count"] == 3
    for secret in ("fatma.demir", "TR3300061005", "Hunter2", "0532 123"):
        assert secret not in json.dumps(kept)
    assert "sk-live" not in by
