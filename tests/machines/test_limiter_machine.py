"""Limits, whatever comes: never more than they allow, nothing left that may go, nobody starved.

The reference is what the limits mean: over any span of time no more has started than the rate
gives in it and one burst, and no more is in flight than may be. Time is Postgres's own, moved on
by moving the rows.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from producers.ledger import dispatch
from producers.ledger.dispatch import LimitUsage, Rules
from producers.queries.ledger import job_limits
from producers.queries.ledger.job_limits import Limit
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.ledger.outbox import Lease
from shared.queries.ledger import attempts, dispatches, outbox
from shared.queries.ledger.dispatches import BEFORE_ALL
from tests.machines.running import run
from tests.support import misbehaving_jobs
from tests.support.factories import make_tenant, publish_jobs, rows

QUEUE = misbehaving_jobs.Keyed.queue_name
EXAMPLES = 100
NOBODY = {"id": "", "tenant_id": None, "tier": None, "job": "keyed", "per_key": False}
PLAIN = NOBODY | {"concurrency_max": None, "rate_per_s": None, "burst": 1.0, "unit": "jobs"}
MOVE = """
    WITH outbox AS (UPDATE "JobOutbox" SET "dueAt" = "dueAt" - %(by)s),
         used AS (UPDATE "JobLimitUse" SET "spentUntil" = "spentUntil" - %(by)s)
    UPDATE "Job" SET "dueAt" = "dueAt" - %(by)s
"""


@dataclass(frozen=True)
class Place:
    """Where a job is counted."""

    tenant: str
    key: str
    cost: int


class Limiter(RuleBasedStateMachine):
    """Jobs of two tenants with keys and prices, under a handful of limits."""

    @initialize(
        own=st.sampled_from((None, 2.0, 20.0)),
        burst=st.sampled_from((1.0, 5.0)),
        price=st.sampled_from((None, 10.0)),
        kind=st.sampled_from((None, 3)),
        key=st.sampled_from((None, 1, 2)),
    )
    def begin(self, own, burst, price, kind, key):
        self.tenants = [make_tenant(), make_tenant()]
        first, second = self.tenants
        self.limits = []
        if own:
            self.put(tenant_id=first, job=None, rate_per_s=own, burst=burst)
        if price:
            self.put(tenant_id=second, rate_per_s=price, burst=4 * burst, unit="cost")
        if kind:
            self.put(concurrency_max=kind)
        if key:
            self.put(per_key=True, concurrency_max=key)
        self.places = {}
        self.flying = []
        self.started = defaultdict(list)
        self.moved = timedelta(0)

    def put(self, **fields):
        with db.transaction(None, role=Role.RELAY) as conn:
            job_limits.put(conn, Limit(**(PLAIN | fields)))
            self.limits = job_limits.select_limits(conn)

    @rule(
        tenant=st.integers(0, 1),
        key=st.sampled_from(("", "a", "b")),
        priority=st.sampled_from((0, 0, 3)),
        prices=st.lists(st.sampled_from((1, 1, 7)), min_size=1, max_size=3),
    )
    def publishes(self, tenant, key, priority, prices):
        first = len(self.places)
        jobs = [
            misbehaving_jobs.Keyed(customer=key, weight=one, n=first + n)
            for n, one in enumerate(prices)
        ]
        ids = publish_jobs(self.tenants[tenant], jobs, priority=priority)
        for job_id, price in zip(ids, prices, strict=True):
            self.places[job_id] = Place(self.tenants[tenant], key, price)

    @rule(seconds=st.sampled_from((0.05, 0.3, 2.0)))
    def passes_time(self, seconds):
        self.move(seconds)

    def move(self, seconds):
        by = timedelta(seconds=seconds)
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute(MOVE, {"by": by})
        self.moved += by

    @rule(room=st.integers(1, 20))
    def looks(self, room):
        self.step(room)

    @rule(share=st.sampled_from((0.3, 1.0)))
    def works(self, share):
        self.finish(math.ceil(len(self.flying) * share))

    @rule()
    def leaves_nothing_that_may_go(self):
        """Looks at one moment, one after the other: what is left then, some limit forbids."""
        while self.step(50):
            pass
        at = self.now()
        left = [self.places[row[0]] for row in rows('SELECT "jobId" FROM "JobOutbox"')]
        for one in left:
            assert self.forbidden(one, at), f"{one} may go, and was left"

    def step(self, room):
        """What the relay's step does with limits. Returns how many went."""
        with db.transaction(None, role=Role.RELAY) as conn:
            rules = Rules((), job_limits.select_limits(conn))
            lanes = dispatches.select_lanes(conn, dict.fromkeys(QUEUES, BEFORE_ALL), limit=1_000)
            spent_s = job_limits.select_spent(
                conn, [one.id for one in rules.limits if one.rate_per_s]
            )
            use = LimitUsage(job_limits.count_in_flight(conn), spent_s)
            shares = dispatch.shares(lanes, {QUEUE: room}, rules, use)
            taken = dispatches.take(conn, shares, ageing_s=dispatch.AGEING_S) if shares else []
            if spent := dispatch.spent(taken, lanes, rules):
                job_limits.spend(conn, spent)
            [(at,)] = conn.execute("SELECT now()")
        assert len(taken) <= room
        assert taken or rules.limits or not lanes, "without a limit something goes"
        self.flying += [(one.wakeup.job_id, one.wakeup.attempt) for one in taken]
        self.note([self.places[one.wakeup.job_id] for one in taken], at + self.moved)
        return len(taken)

    def note(self, went, at):
        """Hold what went against the limits."""
        for limit in self.limits:
            units = Counter()
            for one in went:
                if where := self.counter(limit, one):
                    units[where] += one.cost if limit.unit == "cost" else 1
            for where, amount in units.items():
                assert self.in_flight(limit, where) <= (limit.concurrency_max or math.inf)
                if limit.rate_per_s:
                    self.started[limit.id, where].append((at, amount))
                    self.within(limit, self.started[limit.id, where], len(went))

    def within(self, limit, started, went):
        """Over each span that ends now: at most the rate's part and a burst."""
        burst = limit.burst + limit.rate_per_s * dispatch.LOOK_S
        # The last of each lane may cost more than is left; the debt is waited for.
        burst += 6 * 7 if limit.unit == "cost" else 1e-6
        end, total = started[-1][0], 0.0
        for at, amount in reversed(started):
            total += amount
            most = limit.rate_per_s * (end - at).total_seconds() + burst
            assert total <= most, f"{total} started where {most} may"

    def forbidden(self, place, at):
        """Whether some limit has nothing left for a job, by the reference."""
        return any(
            where is not None and self.used_up(limit, where, at)
            for limit in self.limits
            for where in [self.counter(limit, place)]
        )

    def used_up(self, limit, where, at):
        flying = self.in_flight(limit, where)
        if limit.concurrency_max is not None and flying >= limit.concurrency_max:
            return True
        if not limit.rate_per_s:
            return False
        # What lies unclaimed is bounded too, lest workers that come back start it all at once.
        if limit.unit == "jobs" and flying >= max(1, limit.rate_per_s * dispatch.UNCLAIMED_S):
            return True
        spent_until = None
        for began, amount in self.started[limit.id, where]:
            start = began if spent_until is None else max(began, spent_until)
            spent_until = start + timedelta(seconds=amount / limit.rate_per_s)
        spent_s = 0.0 if spent_until is None else max(0.0, (spent_until - at).total_seconds())
        burst_s = limit.burst / limit.rate_per_s + dispatch.LOOK_S
        least = 1 if limit.unit == "jobs" else 0
        # A moment has passed between the last look and this one.
        return (burst_s - spent_s) * limit.rate_per_s <= least + limit.rate_per_s * 0.25

    def counter(self, limit, place):
        """Which of a limit's counters a job is counted in; None when it is free of it."""
        if limit.tenant_id not in (None, place.tenant) or (limit.per_key and not place.key):
            return None
        tenant = place.tenant if limit.tenant_id or limit.per_key else ""
        return tenant, place.key if limit.per_key else ""

    def in_flight(self, limit, where):
        return sum(self.counter(limit, self.places[one]) == where for one, _ in self.flying)

    def finish(self, count):
        """Workers do the first of what was sent."""
        going, self.flying = self.flying[:count], self.flying[count:]
        with db.transaction(None, role=Role.RELAY) as conn:
            found = outbox.claim(conn, going, worker="w", lease_s=30.0)
            leased = [Lease(*row) for row in found]
            assert attempts.complete(conn, [(one.job_id, one.fence) for one in leased]) == len(
                going
            )

    def now(self):
        return rows("SELECT clock_timestamp()")[0][0] + self.moved

    def teardown(self):
        """Everybody's turn comes: in bounded time nothing is left."""
        units = sum(one.cost for one in self.places.values())
        for _ in range(10 + 2 * units):
            self.step(50)
            self.finish(len(self.flying))
            self.move(1.0)
            left = rows('SELECT count(*) FROM "JobOutbox"')[0][0]
            if not left:
                break
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute('DELETE FROM "JobLimit"')
            conn.execute('DELETE FROM "Tenant" WHERE "id" = ANY(%s)', [self.tenants])
        assert not left, "somebody starves"


def test_limits_are_kept_and_nobody_starves(pool):
    run(Limiter, EXAMPLES)


def test_one_whose_rate_is_spent_keeps_nobody_else_waiting(pool):
    limiter = Limiter()
    limiter.begin(own=2.0, burst=1.0, price=None, kind=3, key=None)
    limiter.publishes(tenant=1, key="", priority=0, prices=[1])
    limiter.publishes(tenant=0, key="", priority=0, prices=[1, 1])
    limiter.leaves_nothing_that_may_go()

    limiter.publishes(tenant=1, key="", priority=0, prices=[1])
    limiter.leaves_nothing_that_may_go()

    limiter.teardown()
