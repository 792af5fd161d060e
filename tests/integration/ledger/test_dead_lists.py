"""Lists of dead letters as a person on call reads them: the class, the payload, the times."""

from dataclasses import replace

import pytest

from producers.queries.ledger import dead_letters, replays
from producers.queries.ledger.dead_letters import DeadLetterFilters
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.errors import PermanentError
from tests.support.commands import document
from tests.support.factories import claim, publish_jobs, publish_probe, rows
from tests.support.misbehaving_jobs import Keyed
from workers.process import settlement


def kill(job_id, error):
    """Let a job die of an error at its last attempt."""
    [lease] = claim(job_id)
    settlement.settle(replace(lease, attempts_max=1), error)


def test_lists_groups_and_status_show_the_class_of_the_error(acme, run):
    kill(publish_probe(acme), KeyError("CHF"))
    kill(publish_probe(acme), RuntimeError())

    listed, grouped, page = (
        run("dead", "list")[1],
        run("dead", "list", "--grouped")[1],
        run("status")[1],
    )

    for text in (listed, grouped, page):
        assert "KeyError: 'CHF'" in text
        assert "RuntimeError\n" in text  # an error without a message has no more to tell
    found = document(run("dead", "list", "--json"))
    assert [(one["errorType"], one["error"]) for one in found] == [
        ("KeyError", "'CHF'"),
        ("RuntimeError", "RuntimeError"),
    ]
    groups = document(run("dead", "list", "--grouped", "--json"))
    assert {one["errorType"] for one in groups} == {"KeyError", "RuntimeError"}


@pytest.fixture
def letters(acme):
    """Three dead jobs. Returns their ids by what they hold."""
    ids = {
        "seven": publish_jobs(acme, [Probe(n=7, note="urgent")])[0],
        "text": publish_jobs(acme, [Keyed(customer="7", n=1)])[0],
        "other": publish_jobs(acme, [Keyed(customer="Ünal & Söhne.com", n=8)])[0],
    }
    for job_id in ids.values():
        kill(job_id, PermanentError("No."))
    return ids


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["n=7"], {"seven"}),
        (["n=7.0"], {"seven"}),
        (['n="7"'], set()),
        (["customer=7"], {"text"}),
        (['customer="7"'], {"text"}),
        (["customer=Ünal & Söhne.com"], {"other"}),
        (["n=7", "note=urgent"], {"seven"}),
        (["n=7", "note=later"], set()),
        (["nothing=7"], set()),
        (["nested.n=7"], set()),
        (["weight=1"], {"text", "other"}),
        (["note=') || (1 == 1"], set()),
        (['na"me=x'], set()),
    ],
)
def test_letters_are_found_by_what_their_payload_holds(letters, run, conditions, found):
    options = [word for one in conditions for word in ("--where", one)]

    listed = document(run("dead", "list", *options, "--json"))
    grouped = document(run("dead", "list", "--grouped", *options, "--json"))
    dry = document(run("dead", "replay", *options, "--dry-run", "--json"))

    assert {one["id"] for one in listed} == {letters[name] for name in found}
    assert sum(one["count"] for one in grouped) == len(found)
    assert dry["matched"] == len(found)


def test_lists_and_nested_fields_are_looked_into(acme, letters, run):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "Job" SET "payload" = '{"a": {"b": [1, null, {"c": true}]}}'
               WHERE "id" = %s""",
            [letters["seven"]],
        )

    for condition in ("a.b=1", "a.b=null", "a.b.c=true"):
        [one] = document(run("dead", "list", "--where", condition, "--json"))
        assert one["id"] == letters["seven"]


@pytest.mark.parametrize(
    ("stored", "conditions"),
    [
        ("5e-324", ["n=5e-324", "n=5E-324", "n=0.5e-323"]),
        ("-1.5e300", ["n=-1.5e300", "n=-1.5E+300"]),
        ("1" + "0" * 300, ["n=1e300", "n=1" + "0" * 300]),
        ('"017"', ["n=017", 'n="017"']),
        ('"1e9999"', ["n=1e9999"]),
    ],
)
def test_numbers_of_any_size_are_found(letters, run, stored, conditions):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(
            """UPDATE "Job" SET "payload" = jsonb_build_object('n', %s::jsonb) WHERE "id" = %s""",
            [stored, letters["seven"]],
        )

    for condition in conditions:
        [one] = document(run("dead", "list", "--where", condition, "--json"))
        assert one["id"] == letters["seven"]


@pytest.mark.parametrize(
    "options",
    [
        ["n"],
        ["=7"],
        ["a..b=7"],
        ["n=" + "x" * 1_001],
        ["x" * 201 + "=7"],
        [".".join("abcdefghi") + "=1"],
        ['n="a\\"'],
        ["n=\udcff"],
        ["n=1"] * 11,
    ],
)
def test_a_condition_that_is_none_is_refused(pool, run, options):
    words = [word for one in options for word in ("--where", one)]

    code, output = run("dead", "list", *words)

    assert code == 2
    assert "--where" in output


def test_a_condition_alone_is_a_choice_and_is_in_the_audit_log(letters, run):
    assert document(run("dead", "replay", "--where", "n=7", "--json"))["replayed"] == 1
    [(what,)] = rows("""SELECT "metadata" FROM "AuditLog" WHERE "action" = 'dead.replay'""")
    assert "where" in what["filters"]


def test_what_is_taken_back_has_died_when_it_died(acme, letters):
    def died():
        with db.transaction(None, role=Role.RELAY) as conn:
            groups = dead_letters.select_groups(conn, DeadLetterFilters(), limit=10)
            found = dead_letters.select_dead(conn, DeadLetterFilters(), limit=10)
        return (
            [(one.fingerprint, one.job, one.first_died_at, one.last_died_at) for one in groups],
            {one.id: one.died_at for one in found},
        )

    before = died()
    with db.transaction(None, role=Role.RELAY) as conn:
        dead_letters.replay(conn, list(letters.values()))
        replays.undo(conn, list(letters.values()))

    assert sorted(died()[0]) == sorted(before[0])
    assert died()[1] == before[1]


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_an_action_that_changes_nothing_says_so(letters, run, verb):
    code, output = run("dead", verb, "--where", "n=99")

    assert code == 0
    assert "nothing was changed, no such job is there" in output
    assert "nothing was changed" in run("dead", "undo", "--all")[1]
    assert "nothing" not in run("dead", verb, "--all")[1]
    assert "nothing was changed" in run("dead", verb, letters["seven"])[1]
