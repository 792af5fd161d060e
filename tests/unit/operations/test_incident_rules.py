"""When figures become an incident: at the threshold and not below it, and how long it stays one."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from producers.operations import incident_rules
from producers.operations.incident_rules import Signs, findings
from producers.queries.operations.incidents import (
    CrashLoop,
    Drift,
    FailingProvider,
    FlaggedShare,
    SpentBudget,
    Spike,
)
from shared.server_errors import Trouble

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def causes(**signs):
    return [(one.tenant_id, one.cause, one.severity) for one in findings(Signs(**signs))]


def dead(now, before):
    return [Spike("embed_chunks:ab12", "embed_chunks", now, before, "embedding")]


def crashes(deaths, job="ocr", queue="ingest"):
    return CrashLoop(job, queue, deaths, 3, "The worker process died: signal SIGSEGV.")


def share(flagged, judged, flagged_before=10, judged_before=1_000):
    return [FlaggedShare("acme", flagged, judged, flagged_before, judged_before)]


def test_nothing_wrong_finds_nothing():
    assert findings(Signs()) == []


@pytest.mark.parametrize(
    ("now", "before", "severity"),
    [
        (9, 0, None),  # few are no spike, however quiet it was before
        (10, 0, "MEDIUM"),
        (10, 20, None),  # three times the rate of the hour before is not more than it
        (11, 20, "MEDIUM"),
        (100, 0, "HIGH"),
    ],
)
def test_dead_letters_spike_by_number_and_against_the_hour_before(now, before, severity):
    found = causes(dead=dead(now, before), ended={"embedding": 1_000})

    assert found == ([(None, "dead:embed_chunks:ab12", severity)] if severity else [])


@pytest.mark.parametrize(
    ("ended", "least"), [(0, 5), (100, 5), (101, 6), (160, 8), (200, 10), (10**6, 10)]
)
def test_how_many_deaths_are_many_depends_on_what_the_queue_does(ended, least):
    assert causes(dead=dead(least - 1, 0), ended={"embedding": ended}) == []
    assert len(causes(dead=dead(least, 0), ended={"embedding": ended, "ingest": 10**6})) == 1


@pytest.mark.parametrize(
    ("deaths", "severity"), [(4, None), (5, "MEDIUM"), (19, "MEDIUM"), (20, "HIGH")]
)
def test_processes_that_die_of_a_kind_of_job_are_a_crash_loop(deaths, severity):
    found = causes(crashes=[crashes(deaths)])

    assert found == ([(None, "crashes:ocr", severity)] if severity else [])


def test_a_crash_loop_is_named_by_the_kind_that_ended_most_processes_of_its_queue():
    found = causes(crashes=[crashes(6, "beside"), crashes(7), crashes(5, "send", "audit")])

    assert [cause for _, cause, _ in found] == ["crashes:ocr", "crashes:send"]


def test_a_late_queue_whose_processes_die_says_so_and_any_other_asks_for_workers():
    found = findings(Signs(lags={"ingest": 61.0, "audit": 61.0}, crashes=[crashes(2)]))

    told = {one.cause: one.description for one in found}
    assert "2 of its worker processes died in ten minutes while they ran ocr" in told["lag:ingest"]
    assert "are there workers" in told["lag:audit"]


def test_an_open_spike_that_goes_on_does_not_become_what_is_usual():
    steady = dead(10, 60)
    still = {("", "dead:embed_chunks:ab12")}
    busy = {"embedding": 1_000}

    assert causes(dead=steady) == []
    assert len(causes(dead=steady, open=still)) == 1
    assert len(causes(dead=dead(5, 60), open=still, ended=busy)) == 1
    assert causes(dead=dead(4, 60), open=still, ended=busy) == []


def test_a_quarantine_that_grows_is_named_by_its_queue():
    found = causes(
        quarantined=[
            Spike("audit", "audit", 12, 0, "audit"),
            Spike("ingest", "ingest", 3, 0, "ingest"),
        ]
    )

    assert found == [(None, "quarantine:audit", "MEDIUM")]


@pytest.mark.parametrize(
    ("seconds", "severity"), [(60.0, None), (60.1, "MEDIUM"), (600.0, "MEDIUM"), (600.1, "HIGH")]
)
def test_a_queue_is_late_after_a_minute_and_gravely_so_after_ten(seconds, severity):
    found = causes(lags={"ingest": seconds})

    assert found == ([(None, "lag:ingest", severity)] if severity else [])


def test_a_late_queue_is_so_until_it_is_well_below_the_threshold():
    still = {("", "lag:ingest")}

    assert len(causes(lags={"ingest": 31.0}, open=still)) == 1
    assert causes(lags={"ingest": 30.0}, open=still) == []


def test_a_provider_whose_breaker_is_open_is_an_incident():
    found = causes(providers=[FailingProvider("openai", 7, NOW)])

    assert found == [(None, "provider:openai", "HIGH")]


@pytest.mark.parametrize(
    ("promised", "found", "pairs", "is_wrong"),
    [(0.05, 0.15, 500, False), (0.05, 0.151, 50, True), (0.05, 0.9, 49, False)],
)
def test_a_calibration_drifts_once_enough_pairs_show_it(promised, found, pairs, is_wrong):
    drifts = [Drift("acme", 3, promised, found, pairs)]

    assert causes(drifts=drifts) == ([("acme", "calibration:3", "MEDIUM")] if is_wrong else [])


@pytest.mark.parametrize(
    ("shares", "is_surge"),
    [
        (share(20, 100), True),  # a fifth, and a hundredth before
        (share(19, 100), False),  # too few
        (share(30, 1_000), False),  # three times as many is not more than three times
        (share(31, 1_000), True),
        (share(20, 41, 0, 0), False),  # a new tenant: below half
        (share(20, 40, 0, 0), True),
        (share(20, 40, 99, 99), True),  # too little before to compare with
    ],
)
def test_a_surge_of_flagged_content_is_told_from_its_usual_share(shares, is_surge):
    expected = [("acme", "moderation:surge", "HIGH")] if is_surge else []

    assert causes(flagged=shares) == expected


def test_an_open_surge_goes_on_at_half_its_thresholds():
    still = {("acme", "moderation:surge")}

    assert len(causes(flagged=share(10, 100), open=still)) == 1
    assert causes(flagged=share(9, 100), open=still) == []
    assert causes(flagged=share(10, 1_000), open=still) == []


def test_a_spent_budget_says_how_much_and_until_when():
    spent = SpentBudget("acme", "b1", "Chat", Decimal("12.5"), Decimal(10), NOW)

    (found,) = findings(Signs(budgets=[spent]))

    assert (found.tenant_id, found.cause, found.measured) == ("acme", "budget:b1", 1.25)
    assert "12.50 of 10.00 dollars" in found.description
    assert "2026-11-23 12:00 UTC" in found.description


def test_every_finding_is_of_a_kind_that_the_sweep_settles():
    signs = Signs(
        crashes=[crashes(5)],
        dead=dead(10, 0),
        quarantined=[Spike("audit", "audit", 12, 0, "audit")],
        lags={"ingest": 61.0},
        providers=[FailingProvider("openai", 7, NOW)],
        drifts=[Drift("acme", 3, 0.0, 0.5, 50)],
        flagged=share(20, 20),
        budgets=[SpentBudget("acme", "b1", "Chat", Decimal(10), Decimal(10), NOW)],
        troubles=[Trouble("postgres", "disk_full", "The disk of Postgres is full: x")],
        broken="Chain acme, entry 2: the entry was changed.",
    )

    kinds = [one.cause.partition(":")[0] for one in findings(signs)]

    assert sorted(kinds) == sorted(incident_rules.KINDS)
