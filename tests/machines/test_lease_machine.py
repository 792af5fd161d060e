"""Two who want the same job at the same time: one has it, and what the other wrote is gone."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from producers.queries.ledger import jobs
from shared import db
from shared.db import Role
from shared.errors import LeaseLost
from shared.ledger import lapsed_leases
from shared.ledger.outbox import Lease, effect
from shared.queries.ledger import attempts, dispatches, outbox
from tests.machines.ledger import LEASE_S, Ledger
from tests.machines.running import run
from workers.queries.operations import probes

ANY = st.integers(0, 10_000)
EXAMPLES = 30


def together(*acts):
    """Do several things at the same moment, each on a connection of its own."""
    start = Barrier(len(acts))

    def one(act):
        start.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [found.result() for found in [pool.submit(one, act) for act in acts]]


def wrote(lease):
    """Do the attempt. Returns whether it committed."""
    try:
        with effect(lease) as conn:
            probes.insert_entry(conn, lease.job_id, 1)
    except LeaseLost:
        return False
    return True


def swept():
    """The relay's sweep. Returns what it found lapsed."""
    with db.transaction(None, role=Role.RELAY) as conn:
        held = dispatches.select_lapsed(conn, limit=500)
        crashed = [one.job_id for one in held]
        lapsed_leases.take_back(conn, held, crashed=crashed, error_type="LeaseLapsed", error="x")
        return crashed


def renewed(lease):
    with db.transaction(None, role=Role.RELAY) as conn:
        return outbox.renew(conn, [(lease.job_id, lease.fence)], lease_s=LEASE_S) == 1


def given_back(lease):
    with db.transaction(None, role=Role.RELAY) as conn:
        return attempts.give_back(conn, [(lease.job_id, lease.fence)]) == 1


def cancelled(job_id):
    with db.transaction(None, role=Role.RELAY) as conn:
        return jobs.cancel(conn, job_id)


class Leases(Ledger):
    """Races between an attempt, its copies, the sweep and an operator."""

    @initialize()
    def begin(self):
        for which in range(3):
            self.publish(which)

    @rule(which=ANY)
    def publishes(self, which):
        self.publish(which)

    @rule()
    def wakes_and_claims(self):
        self.wake(8)
        if self.wakeups:
            self.claim(self.wakeups)

    @precondition(lambda self: self.wakeups)
    @rule(workers=st.integers(2, 3))
    def claim_the_same(self, workers):
        def claimed():
            with db.transaction(None, role=Role.RELAY) as conn:
                found = outbox.claim(conn, self.wakeups, worker="w", lease_s=LEASE_S)
                return [Lease(*row) for row in found]

        self.wake(8)
        wanted = {job_id for job_id, attempt in self.wakeups if self.wakes(job_id, attempt)}
        leased = [one for found in together(*[claimed] * workers) for one in found]
        assert len(leased) == len({one.job_id for one in leased})
        assert {one.job_id for one in leased} <= wanted
        for one in leased:
            self.leased(one)

    @precondition(lambda self: self.leases)
    @rule(which=ANY, stale=st.booleans())
    def writes_as_the_sweep_comes(self, which, stale):
        lease = self.leases[which % len(self.leases)]
        if stale:
            self.pass_time(LEASE_S + 1)
        lapsed = {one.id for one in self.jobs("RUNNING") if one.lease_s < 0}
        stood = self.stands(lease)
        done, back = together(lambda: wrote(lease), swept)
        assert not done or stood, "an old lease has committed"
        assert not (done and lease.job_id in back), "committed, and taken back"
        assert set(back) <= lapsed
        if done:
            self.finish(lease)
        self.lapse(back)
        if stood and lease.job_id not in lapsed:
            assert done, "a lease that stands was refused"

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def renews_as_the_sweep_comes(self, which):
        lease = self.leases[which % len(self.leases)]
        self.pass_time(LEASE_S + 1)
        stood = self.stands(lease)
        kept, back = together(lambda: renewed(lease), swept)
        assert not kept or stood
        assert not (kept and lease.job_id in back), "renewed, and taken back"
        if kept:
            self.known[lease.job_id].lease_s = LEASE_S
        self.lapse(back)

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def writes_twice(self, which):
        lease = self.leases[which % len(self.leases)]
        stood = self.stands(lease)
        done = together(lambda: wrote(lease), lambda: wrote(lease))
        assert sum(done) == stood, "one attempt, one effect"
        if stood:
            self.finish(lease)

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def writes_as_it_is_cancelled(self, which):
        lease = self.leases[which % len(self.leases)]
        known = self.known[lease.job_id]
        stood, alive = self.stands(lease), known.state in {"PENDING", "RUNNING"}
        done, was = together(lambda: wrote(lease), lambda: cancelled(lease.job_id))
        assert not (done and was), "cancelled, and done"
        assert bool(done or was) == alive
        assert not done or stood
        if done:
            self.finish(lease)
        elif was:
            known.noted += was == "RUNNING"
            known.fence += 1
            known.end("CANCELLED", "CANCELLED")

    @precondition(lambda self: self.leases)
    @rule(which=ANY)
    def writes_as_it_is_given_back(self, which):
        lease = self.leases[which % len(self.leases)]
        known, stood = self.known[lease.job_id], self.stands(lease)
        done, given = together(lambda: wrote(lease), lambda: given_back(lease))
        assert done + given == stood, "done, or given back"
        if done:
            self.finish(lease)
        elif given:
            known.wait(due_s=known.due_s, waits_for=None)
            known.attempt -= 1

    def finish(self, lease):
        known = self.known[lease.job_id]
        known.effects += 1
        known.end("COMPLETED", "COMPLETED")

    def lapse(self, job_ids):
        for job_id in job_ids:
            self.lapsed(self.known[job_id])
        self.pass_time(1)
        # What the sweep passed over because it was locked it finds the next time.
        self.take_back()

    @invariant()
    def is_as_it_must_be(self):
        self.check()


def test_one_lease_commits_and_an_old_one_never(pool):
    run(Leases, EXAMPLES)
