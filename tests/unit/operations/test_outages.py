"""An outage in the log: a line at its start, now and then one with a count, a line at its end."""

import psycopg
import pytest
import redis
from psycopg.errors import DeadlockDetected, DiskFull

from shared.observability import outages as noted
from shared.observability.outages import AGAIN_S, LASTING_S, OVER_S, RECENT_S, Outages
from shared.server_errors import POSTGRES, REDIS, unavailable
from tests.support.logs import captured

FULL = unavailable(DiskFull("could not extend file"))
AWAY = unavailable(psycopg.OperationalError("Connection refused"))


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outages(clock):
    return Outages(clock)


def test_hundreds_of_errors_are_few_lines(outages, clock):
    with captured(noted) as lines:
        for _ in range(400):
            outages.note(AWAY)
            clock.now += 0.5
        clock.now += OVER_S
        outages.worked(POSTGRES)

    assert [line["event"] for line in lines] == ["postgres.away"] * 4 + ["postgres.back"]
    assert lines[1]["times"] == round(AGAIN_S / 0.5)
    assert lines[-1]["times"] == 400
    assert "Connection refused" in lines[0]["error"]


def test_a_full_disk_is_not_over_because_reading_works(outages, clock):
    with captured(noted) as lines:
        for _ in range(10):
            outages.note(FULL)
            outages.worked(POSTGRES)
            clock.now += 1
        outages.worked(REDIS)

    assert [(line["event"], line["code"]) for line in lines] == [("postgres.failing", "disk_full")]


def test_each_server_and_trouble_has_lines_of_its_own(outages, clock):
    with captured(noted) as lines:
        for error in (FULL, redis.TimeoutError("slow"), FULL, unavailable(DeadlockDetected("x"))):
            outages.note(error, queue="audit")

    assert [(line["event"], line["queue"]) for line in lines] == [
        ("postgres.failing", "audit"),
        ("redis.away", "audit"),
        ("postgres.failing", "audit"),
    ]


def test_what_lasts_is_remembered_a_while_after_its_end(outages, clock):
    outages.note(AWAY)
    outages.note(FULL)
    clock.now += LASTING_S
    outages.note(FULL)

    during = outages.lasting()
    clock.now += RECENT_S + 1
    later = outages.lasting()

    assert [one.code for one in during] == ["disk_full"]
    assert later == []
