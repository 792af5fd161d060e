"""Whatever is done to schedules in whatever order: each slot becomes one job, or is left out.

Time passes by moving the rows. Jobs of before a move get another key then, for a slot that lies
where an earlier one lay before the move is another slot.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from producers.ledger import schedule_slots, schedules
from producers.ledger.schedule_slots import Timing
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import NewSchedule
from shared import db
from shared.db import Role
from tests.support.factories import make_tenant, rows
from tests.support.thoroughness import examples

NAMES = st.sampled_from("abc")
CRONS = ("* * * * *", "*/5 * * * *", "2-59/5 * * * *")


class Schedules(RuleBasedStateMachine):
    """The rules; `before` is what is due at the beginning of a run."""

    def __init__(self):
        super().__init__()
        self.tenant = make_tenant()
        self.moves = 0

    @rule(
        name=NAMES,
        cron=st.sampled_from(CRONS),
        missed=st.sampled_from(("once", "skip", "all")),
        jitter_s=st.sampled_from((0, 40)),
        enabled=st.booleans(),
    )
    def put(self, name, cron, missed, jitter_s, enabled):
        wanted = NewSchedule(
            name, cron, "Europe/Istanbul", jitter_s, missed, "probe", {"note": name}, enabled
        )
        with db.transaction(self.tenant) as conn:
            schedules.put(conn, wanted)

    @rule(name=NAMES)
    def delete(self, name):
        with db.transaction(self.tenant) as conn:
            queries.delete(conn, name)

    @rule(minutes=st.sampled_from((5, 15, 60, 24 * 60)))
    def advance_time(self, minutes):
        self.moves += 1
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute(
                """UPDATE "Schedule" SET "slotAt" = "slotAt" - %(by)s,
                       "nextAt" = "nextAt" - %(by)s, "ranSlotAt" = "ranSlotAt" - %(by)s
                   WHERE "tenantId" = %(tenant)s""",
                {"by": timedelta(minutes=minutes), "tenant": self.tenant},
            )
            conn.execute(
                """UPDATE "Job" SET "key" = %(move)s || "key"
                   WHERE "tenantId" = %(tenant)s AND "key" LIKE 'schedule:%%'""",
                {"move": f"{self.moves}:", "tenant": self.tenant},
            )

    @rule(schedulers=st.sampled_from((1, 1, 3)))
    def run(self, schedulers):
        had = self.keys()
        before = self.planned()
        start = threading.Barrier(schedulers)

        def one(_):
            start.wait()
            return schedules.run_due()

        with ThreadPoolExecutor(schedulers) as pool:
            list(pool.map(one, range(schedulers)))
        schedules.run_due()

        new = self.keys() - had
        assert set.intersection(*before) <= new <= set.union(*before), "not the slots planned"

    @rule()
    def crash(self):
        had = self.keys()
        with pytest.raises(ZeroDivisionError), db.transaction(self.tenant) as conn:
            run_and_die(conn)
        assert self.keys() == had

    @invariant()
    def every_slot_lies_on_its_grid_and_after_what_ran(self):
        found = rows(
            """SELECT "id", "cron", "timeZone", "jitterS", "slotAt", "nextAt", "ranSlotAt"
               FROM "Schedule" WHERE "tenantId" = %s""",
            self.tenant,
        )
        for schedule_id, cron, zone, jitter_s, slot_at, next_at, ran_slot_at in found:
            timing = Timing(cron, zone, jitter_s)
            assert schedule_slots.next_slot(timing, slot_at - timedelta(seconds=1)) == slot_at
            assert timedelta(0) <= next_at - slot_at <= timedelta(seconds=jitter_s)
            assert ran_slot_at is None or ran_slot_at < slot_at, schedule_id

    def keys(self):
        found = rows(
            """SELECT "key" FROM "Job" WHERE "tenantId" = %s AND "key" LIKE 'schedule:%%'""",
            self.tenant,
        )
        assert len(found) == len(set(found))
        return {key for (key,) in found}

    def planned(self):
        """The keys of what is due, by the clock of now and of a minute on."""
        due = rows(
            """SELECT "id", "cron", "timeZone", "jitterS", "missed", "slotAt", now()
               FROM "Schedule"
               WHERE "tenantId" = %s AND "enabled" AND "nextAt" <= now()""",
            self.tenant,
        )
        answers = []
        for later in (timedelta(0), timedelta(minutes=1)):
            keys = set()
            for schedule_id, cron, zone, jitter_s, missed, slot_at, now in due:
                timing = Timing(cron, zone, jitter_s, missed)
                runs = schedule_slots.plan(schedule_id, timing, slot_at, now + later).runs
                keys |= {f"schedule:{schedule_id}:{run.isoformat()}" for run in runs}
            answers.append(keys)
        return answers

    def teardown(self):
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute('DELETE FROM "Tenant" WHERE "id" = %s', [self.tenant])


def run_and_die(conn):
    """What a scheduler does that is killed right before its COMMIT."""
    ids = [row[0] for row in conn.execute('SELECT "id" FROM "Schedule"')]
    steps = [schedules._step(conn, due) for due in queries.claim(conn, ids)]
    if steps:
        queries.advance(conn, steps)
    raise ZeroDivisionError


def test_each_slot_becomes_one_job_or_is_left_out(pool):
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=examples(50),
            stateful_step_count=15,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
