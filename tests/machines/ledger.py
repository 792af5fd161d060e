"""What the ledger must be after each act: a model in Python, and acts on both that compare them.

Time passes by moving the rows. Nothing here copies a statement: the model says what each act does
to one job, `check` reads the tables and finds the same.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from producers.ledger import dispatch
from producers.ledger.dispatch import LimitUsage, Rules
from producers.queries.ledger import dead_letters, flights, jobs, pauses, replays
from producers.queries.ledger.pauses import Pause
from shared import db
from shared.contracts import QUEUES, Probe
from shared.db import Role
from shared.errors import LeaseLost
from shared.ids import JobId, TenantId
from shared.ledger import lapsed_leases
from shared.ledger.outbox import Lease, effect, publish
from shared.queries.ledger import attempts, dispatches, outbox
from shared.queries.ledger.attempts import AttemptFailure
from shared.queries.ledger.dispatches import BEFORE_ALL
from tests.support.factories import make_tenant, rows
from workers.queries.operations import probes

QUEUE = Probe.queue_name
LEASE_S = 30.0
MOMENT_S = 1.0
_notes = count(1)

READ = """
    SELECT j."id", j."state", j."attempt", j."crashes", j."fence", j."waitingFor",
           (SELECT count(*) FROM "JobOutbox" o WHERE o."jobId" = j."id"),
           (SELECT count(*) FROM "JobFlight" f WHERE f."jobId" = j."id"),
           (SELECT count(*) FROM "DeadLetter" d WHERE d."jobId" = j."id"),
           (SELECT count(*) FROM "JobAttempt" a WHERE a."jobId" = j."id"),
           (SELECT count(*) FROM "ProbeEntry" p WHERE p."jobId" = j."id")
    FROM "Job" j WHERE j."tenantId" = ANY(%s)
"""
ORDER = """
    SELECT "jobId", row_number() OVER (
               ORDER BY "dueAt" - "priority" * interval '30 seconds', "seq"), "tenantId"
    FROM "JobOutbox" WHERE "jobId" = ANY(%s) ORDER BY 2
"""
MOVE = """
    WITH outbox AS (
        UPDATE "JobOutbox" SET "dueAt" = "dueAt" - %(by)s * interval '1 second'
        WHERE "tenantId" = ANY(%(tenants)s)
    )
    UPDATE "Job" SET "dueAt" = "dueAt" - %(by)s * interval '1 second',
                     "leaseUntil" = "leaseUntil" - %(by)s * interval '1 second'
    WHERE "tenantId" = ANY(%(tenants)s)
"""


@dataclass
class Known:
    """A job as it must be; `due_s` is how long it has to wait yet, `lies` where its row is."""

    id: JobId
    tenant: TenantId
    job: Probe
    due_s: float
    state: str = "PENDING"
    lies: str | None = "outbox"
    attempt: int = 0
    crashes: int = 0
    fence: int = 0
    waits_for: str | None = None
    lease_s: float = 0.0
    noted: int = 0
    failed: set[int] = field(default_factory=set)
    effects: int = 0
    events: Counter[str] = field(default_factory=Counter)

    def end(self, state: str, what: str) -> None:
        """Be over."""
        self.state, self.lies, self.waits_for = state, None, None
        self.events[what] += 1

    def wait(self, *, due_s: float, waits_for: str | None) -> None:
        """Lie in the outbox again."""
        self.state, self.lies = "PENDING", "outbox"
        self.due_s, self.waits_for = due_s, waits_for


class Ledger(RuleBasedStateMachine):
    """The acts; subclasses say in which order they may come."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants = [make_tenant(), make_tenant()]
        self.known: dict[JobId, Known] = {}
        self.wakeups: list[tuple[JobId, int]] = []
        self.leases: list[Lease] = []
        self.held: set[TenantId] = set()

    def job(self, which: int) -> Known:
        """One of the jobs, by any number."""
        return list(self.known.values())[which % len(self.known)]

    def jobs(self, state: str) -> list[Known]:
        """Those in a state."""
        return [one for one in self.known.values() if one.state == state]

    def stands(self, lease: Lease) -> bool:
        """Whether an attempt may still write."""
        known = self.known[lease.job_id]
        return known.state == "RUNNING" and known.fence == lease.fence

    def publish(self, which: int, *, priority: int = 0, delay_s: float = 0.0) -> None:
        job = Probe(note=f"machine {next(_notes)}")
        tenant = self.tenants[which % 2]
        with db.transaction(tenant) as conn:
            found = publish(conn, job, delay_s=delay_s, priority=priority)
        assert not found.duplicate
        known = Known(found.id, tenant, job, delay_s, waits_for="delay" if delay_s else None)
        self.known[found.id] = known

    def publish_again(self, known: Known) -> None:
        with db.transaction(known.tenant) as conn:
            found = publish(conn, known.job)
        assert (found.id, found.duplicate, found.state) == (known.id, True, known.state)

    def pass_time(self, seconds: float) -> None:
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute(MOVE, {"by": seconds, "tenants": self.tenants})
        for known in self.known.values():
            known.due_s -= seconds
            known.lease_s -= seconds

    def wake(self, room: int) -> None:
        """What the relay's step does; each tenant's part is its first by age and priority."""
        due = [one.id for one in self.known.values() if one.lies == "outbox" and one.due_s <= 0]
        due = [one for one in due if self.known[one].tenant not in self.held]
        order = rows(ORDER, due)
        with db.transaction(None, role=Role.RELAY) as conn:
            rules = Rules(pauses.select_pauses(conn))
            lanes = dispatches.select_lanes(conn, dict.fromkeys(QUEUES, BEFORE_ALL), limit=1_000)
            shares = dispatch.shares(lanes, {QUEUE: room}, rules, LimitUsage())
            taken = dispatches.take(conn, shares, ageing_s=dispatch.AGEING_S) if shares else []
        found = [one.wakeup.job_id for one in taken]
        places = {job_id: place for job_id, place, _ in order}
        assert [places[one] for one in found] == sorted(places[one] for one in found)
        ready = {tenant for _, _, tenant in order}
        for tenant in ready:
            mine = [job_id for job_id, _, whose in order if whose == tenant]
            part = [one for one in found if self.known[one].tenant == tenant]
            assert part == mine[: len(part)], "not the first of its tenant"
            assert len(part) >= min(len(mine), room // len(ready)), "less than its share"
        assert len(found) <= room
        assert found or not due or not room, "something is due, and nothing was taken"
        for one in taken:
            known = self.known[one.wakeup.job_id]
            assert one.wakeup.attempt == known.attempt
            known.lies = "flight"
            self.wakeups.append((known.id, known.attempt))

    def claim(self, wakeups: list[tuple[JobId, int]]) -> list[Lease]:
        """Take wake-ups from Redis, old ones and copies among them."""
        wanted = {job_id for job_id, attempt in wakeups if self.wakes(job_id, attempt)}
        with db.transaction(None, role=Role.RELAY) as conn:
            found = outbox.claim(conn, wakeups, worker="machine", lease_s=LEASE_S)
        leased = [Lease(*row) for row in found]
        assert {one.job_id for one in leased} == wanted
        assert len(leased) == len(wanted), "one job, two leases"
        for one in leased:
            self.leased(one)
        return leased

    def wakes(self, job_id: JobId, attempt: int) -> bool:
        """Whether a wake-up is not stale."""
        known = self.known[job_id]
        asked = known.state == "PENDING" and known.lies == "flight" and known.attempt == attempt
        return asked and known.tenant not in self.held

    def leased(self, lease: Lease) -> None:
        known = self.known[lease.job_id]
        known.state, known.waits_for, known.lease_s = "RUNNING", None, LEASE_S
        known.attempt += 1
        known.fence += 1
        assert (lease.attempt, lease.fence) == (known.attempt, known.fence)
        self.leases.append(lease)

    def effect(self, lease: Lease) -> None:
        """The actor's transaction: it commits while the lease stands, and never else."""
        known = self.known[lease.job_id]
        if not self.stands(lease):
            with pytest.raises(LeaseLost), effect(lease) as conn:
                probes.insert_entry(conn, lease.job_id, 1)
            return
        with effect(lease) as conn:
            probes.insert_entry(conn, lease.job_id, 1)
        known.effects += 1
        known.end("COMPLETED", "COMPLETED")

    def complete(self, lease: Lease) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            done = attempts.complete(conn, [(lease.job_id, lease.fence)])
        assert done == self.stands(lease)
        if done:
            self.known[lease.job_id].end("COMPLETED", "COMPLETED")

    def give_back(self, lease: Lease) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            given = attempts.give_back(conn, [(lease.job_id, lease.fence)])
        assert given == self.stands(lease)
        if given:
            known = self.known[lease.job_id]
            known.wait(due_s=known.due_s, waits_for=None)
            known.attempt -= 1

    def renew(self, lease: Lease) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            stood = outbox.renew(conn, [(lease.job_id, lease.fence)], lease_s=LEASE_S)
        assert stood == self.stands(lease)
        if stood:
            self.known[lease.job_id].lease_s = LEASE_S

    def retry(self, lease: Lease, *, delay_s: float, uncounted: bool) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            done = attempts.retry(conn, _ending(lease), delay_s=delay_s, uncounted=uncounted)
        assert done == self.stands(lease)
        if done:
            known = self.known[lease.job_id]
            # Of looks that use up no attempt only the first is noted.
            known.noted += not (uncounted and known.attempt in known.failed)
            known.failed.add(known.attempt)
            known.wait(due_s=delay_s, waits_for="retry")
            known.attempt -= uncounted
            known.events["RETRY"] += 1

    def bury(self, lease: Lease) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            done = attempts.bury(conn, _ending(lease), reason="permanent")
        assert done == self.stands(lease)
        if done:
            known = self.known[lease.job_id]
            known.noted += 1
            known.end("DEAD", "DEAD")

    def take_back(self) -> None:
        """The relay's sweep of leases that ended unrenewed."""
        running = self.jobs("RUNNING")
        with db.transaction(None, role=Role.RELAY) as conn:
            held = dispatches.select_lapsed(conn, limit=500)
            crashed = [one.job_id for one in held]
            lapsed_leases.take_back(
                conn, held, crashed=crashed, error_type="LeaseLapsed", error="x"
            )
        # A lease may end between the look and the sweep.
        lapsed = [one for one in running if one.id in crashed]
        assert {one.id for one in running if one.lease_s < 0} <= {one.id for one in lapsed}
        assert len(lapsed) == len(crashed)
        assert all(one.lease_s < MOMENT_S for one in lapsed)
        for known in lapsed:
            self.lapsed(known)
        self.pass_time(1)

    def lapsed(self, known: Known) -> None:
        known.noted += 1
        known.crashes += 1
        if known.crashes >= lapsed_leases.CRASHES_MAX or known.attempt >= Probe.attempts_max:
            known.end("DEAD", "DEAD")
        else:
            known.wait(due_s=0.0, waits_for="retry")
            known.events["RETRY"] += 1

    def cancel(self, known: Known) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            was = jobs.cancel(conn, known.id)
        assert was == (known.state if known.state in {"PENDING", "RUNNING"} else None)
        if was:
            known.noted += was == "RUNNING"
            known.fence += 1
            known.end("CANCELLED", "CANCELLED")

    def replay(self, known: Known) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            moved = dead_letters.replay(conn, [known.id])
        assert [one.id for one in moved] == [known.id] * (known.state == "DEAD")
        if moved:
            self.replayed(known)

    def replayed(self, known: Known) -> None:
        known.wait(due_s=0.0, waits_for="replay")
        known.attempt = known.crashes = 0
        known.events["REPLAYED"] += 1

    def undo(self, known: Known) -> None:
        unbegun = known.state == "PENDING" and known.waits_for == "replay"
        with db.transaction(None, role=Role.RELAY) as conn:
            moved = replays.undo(conn, [known.id])
        assert [one.id for one in moved] == [known.id] * unbegun
        if moved:
            known.fence += 1
            known.end("DEAD", "DEAD")

    def discard(self, known: Known) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            moved = dead_letters.discard(conn, [known.id])
        assert [one.id for one in moved] == [known.id] * (known.state == "DEAD")
        if moved:
            known.end("CANCELLED", "DISCARDED")

    def hold(self, tenant: TenantId) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            new = pauses.put(conn, Pause(None, tenant, None), held_by="a machine")
            pauses.withdraw(conn)
        assert new == (tenant not in self.held)
        self.held.add(tenant)
        for known in self.jobs("PENDING"):
            if known.tenant == tenant:
                known.lies = "outbox"

    def lift(self, tenant: TenantId) -> None:
        with db.transaction(None, role=Role.RELAY) as conn:
            assert pauses.delete(conn, Pause(None, tenant, None)) == (tenant in self.held)
        self.held.discard(tenant)

    def resend(self) -> None:
        """Wake-ups are lost, and sent again."""
        lost = {(one.id, one.attempt) for one in self.jobs("PENDING") if one.lies == "flight"}
        with db.transaction(None, role=Role.RELAY) as conn:
            sent = dispatches.resend(conn, [QUEUE], older_s=0.0, limit=1_000)
            assert flights.delete_stale(conn) == 0, "a flight of a job that has ended"
        assert {(one.job_id, one.attempt) for one in sent} == lost

    def check(self) -> None:
        """Every row of every job is as the model says."""
        found = {row[0]: row[1:] for row in rows(READ, self.tenants)}
        wanted = {
            one.id: (
                one.state,
                one.attempt,
                one.crashes,
                one.fence,
                one.waits_for,
                int(one.lies == "outbox"),
                int(one.lies == "flight" or one.state == "RUNNING"),
                int(one.state == "DEAD"),
                one.noted,
                one.effects,
            )
            for one in self.known.values()
        }
        assert found == wanted
        assert all(one.effects <= 1 for one in self.known.values())
        told: dict[str, Counter[str]] = {job_id: Counter() for job_id in self.known}
        query = """SELECT "jobId", "what", count(*) FROM "JobEvent"
                   WHERE "tenantId" = ANY(%s) GROUP BY 1, 2"""
        for job_id, what, times in rows(query, self.tenants):
            told[job_id][what] = times
        assert told == {one.id: +one.events for one in self.known.values()}

    def teardown(self) -> None:
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute('DELETE FROM "Tenant" WHERE "id" = ANY(%s)', [self.tenants])


def _ending(lease: Lease) -> AttemptFailure:
    return AttemptFailure(lease.job_id, lease.fence, "failed", "Failed", "it failed", None)
