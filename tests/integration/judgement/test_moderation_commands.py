"""`ailydian moderation`, as an operator uses it."""

from functools import partial

import pytest

from shared.contracts import ModerateContent
from tests.support.commands import document, refused
from tests.support.factories import claim, do, make_tenant, publish_jobs, rows
from tests.support.sample_documents import ingested, stubbed


@pytest.fixture
def run(run):
    """Run `moderation ...` on the test's servers."""
    return partial(run, "moderation")


SECRET = "The key is sk-abcdefghijklmnopqrstuvwx, keep it."
MAIL = "Write to ada.lovelace@example.org about the invoice."
CLEAN = "The harbour lights burn all night."


@pytest.fixture
def acme(run):
    """A tenant with a document of each action, the clean one judged last."""
    acme = make_tenant("acme")
    for text in (SECRET, MAIL, CLEAN):
        with stubbed():
            document_id = ingested(acme, text)
        asked = ModerateContent(content_type="document", content_id=document_id)
        (lease,) = claim(*publish_jobs(acme, [asked]))
        do(lease)
    return acme


def blocked(run, acme):
    (found,) = document(run("list", "--tenant", acme, "--action", "block", "--json"))
    return found["id"]


def test_verdicts_are_listed_newest_first_and_the_flagged_ones_alone(run, acme):
    every = document(run("list", "--tenant", acme, "--json"))
    flagged = document(run("list", "--tenant", acme, "--flagged", "--json"))
    newest = document(run("list", "--tenant", acme, "--flagged", "--limit", "1", "--json"))

    assert [one["action"] for one in every] == ["allow", "flag", "block"]
    assert [one["action"] for one in flagged] == ["flag", "block"]
    assert newest == flagged[:1]


def test_flagged_and_an_action_exclude_each_other(run, acme):
    output = refused(run("list", "--tenant", acme, "--flagged", "--action", "block"))

    assert "exclude each other" in output


def test_people_read_a_table_and_the_text_is_in_none(run, acme):
    code, listed = run("list", "--tenant", acme)
    _, shown = run("show", blocked(run, acme), "--tenant", acme)

    assert code == 0
    assert listed.splitlines()[0].split() == [
        *("id", "createdAt", "contentType", "contentId", "action", "categories")
    ]
    assert "local-rules" in shown
    assert "irony" in shown  # what the engine is blind to
    assert "sk-" not in listed + shown


def test_a_policy_is_put_from_a_file_shown_and_kept_with_its_past(run, acme, tmp_path):
    file = tmp_path / "policy.json"
    file.write_text('{"categories": {"secret": {"flag_at": 0.4, "block_at": null}}}')

    built_in = document(run("policy", "show", "--tenant", acme, "--json"))
    put = document(run("policy", "put", f"@{file}", "--tenant", acme, "--json"))
    shown = document(run("policy", "show", "--tenant", acme, "--json"))
    _, versions = run("policy", "versions", "--tenant", acme)

    assert (built_in["version"], put, shown["version"]) == (0, {"version": 1}, 1)
    assert shown["policy"]["categories"]["secret"] == {"flag_at": 0.4, "block_at": None}
    assert len(versions.splitlines()) == 2
    assert rows("""SELECT count(*) FROM "Job" WHERE "job" = 'remoderate_content'""") == [(1,)]


def test_a_bad_policy_is_refused_and_nothing_is_kept(run, acme):
    output = refused(run("policy", "put", '{"categories": {"secrets": {}}}', "--tenant", acme))

    assert "did you mean secret?" in output
    assert document(run("policy", "versions", "--tenant", acme, "--json")) == []


def test_an_appeal_is_opened_listed_and_decided_once(run, acme):
    verdict_id = blocked(run, acme)
    opened = document(
        run("appeal", "open", verdict_id, "--reason", "An example.", "--tenant", acme, "--json")
    )
    _, listed = run("appeal", "list", "--tenant", acme)
    code, _ = run("appeal", "decide", opened["id"], "--grant", "--tenant", acme)
    again = refused(run("appeal", "decide", opened["id"], "--reject", "--tenant", acme))

    assert opened["id"] in listed
    assert code == 0
    assert "was granted by cli:" in again
    (row,) = document(run("appeal", "list", "--state", "granted", "--tenant", acme, "--json"))
    assert (row["resultId"], row["reason"]) == (verdict_id, "An example.")
    assert document(run("list", "--tenant", acme, "--action", "block", "--json")) == []


def test_the_audit_log_names_who_did_it(run, acme):
    verdict_id = blocked(run, acme)
    opened = document(
        run("appeal", "open", verdict_id, "--reason", "An example.", "--tenant", acme, "--json")
    )
    run("appeal", "decide", opened["id"], "--reject", "--tenant", acme)
    run("policy", "put", "{}", "--tenant", acme)

    acts = rows(
        """SELECT "action" FROM "AuditLog" WHERE "tenantId" = 'acme'
           AND "metadata"::text LIKE '%cli:%' OR "userId" LIKE 'cli:%' ORDER BY "id" """
    )
    assert {"appeal.open", "appeal.rejected", "policy.change"} <= {one for (one,) in acts}


@pytest.mark.parametrize(
    "arguments",
    [("show", "nothing"), ("appeal", "open", "nothing", "--reason", "x")],
)
def test_another_tenants_verdict_is_not_found(run, acme, arguments):
    verdict_id = blocked(run, acme)
    make_tenant("rival")
    named = [verdict_id if one == "nothing" else one for one in arguments]

    for wanted in (arguments, named):
        assert "no verdict" in refused(run(*wanted, "--tenant", "rival"))
