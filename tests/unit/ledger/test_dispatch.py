"""Who goes next: fair shares, holds and limits, as values."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.ledger import dispatch
from producers.ledger.dispatch import AGEING_S, LimitUsage, Rules, divide, shares
from producers.queries.ledger.job_limits import Counter, InFlight, Limit
from producers.queries.ledger.pauses import Pause
from shared.queries.ledger.dispatches import Lane, Taken, Wakeup
from tests.support.thoroughness import examples


def lane(tenant="t", job="probe", key="", priority=0, due_s=1.0, **other):
    fields = {"queue": "maintenance", "cost": 1, "tier": "FREE"} | other
    return Lane(tenant_id=tenant, job=job, limit_key=key, priority=priority, due_s=due_s, **fields)


def limit(**fields):
    plain = {
        "id": "l",
        "tenant_id": None,
        "tier": None,
        "job": None,
        "per_key": False,
        "concurrency_max": None,
        "rate_per_s": None,
        "burst": 1.0,
        "unit": "jobs",
    }
    return Limit(**(plain | fields))


def rows_of(chosen):
    return {(one.lane.tenant_id, one.lane.job): one.rows for one in chosen}


# ---- fairness


@given(
    room=st.integers(0, 500),
    wanted=st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 300), max_size=20),
)
@settings(max_examples=examples(300))
def test_room_is_divided_max_min_fairly_and_used_up(room, wanted):
    granted = divide(room, wanted)

    assert sum(granted.values()) == min(room, sum(wanted.values()))
    for tenant, rows in granted.items():
        assert 0 < rows <= wanted[tenant]
    unsatisfied = [granted.get(one, 0) for one in wanted if granted.get(one, 0) < wanted[one]]
    if unsatisfied:  # nobody has more than one row more than one who wants more
        assert max(granted.values(), default=0) <= min(unsatisfied) + 1


def test_with_more_tenants_than_room_those_that_waited_longest_go():
    lanes = [lane(f"t{n}", due_s=float(n)) for n in range(10)]

    chosen = shares(lanes, {"maintenance": 3}, Rules(), LimitUsage())

    assert [one.lane.tenant_id for one in chosen] == ["t9", "t8", "t7"]


def test_a_step_of_priority_counts_as_half_a_minute_of_waiting():
    lanes = [
        lane("waited", priority=0, due_s=AGEING_S + 2.0),
        lane("urgent", priority=1, due_s=1.0),
        lane("fresh", priority=0, due_s=1.0),
    ]

    chosen = shares(lanes, {"maintenance": 2}, Rules(), LimitUsage())

    assert [one.lane.tenant_id for one in chosen] == ["waited", "urgent"]


def test_what_is_not_due_yet_takes_no_room():
    lanes = [lane("later", due_s=-5.0), lane("now")]

    chosen = shares(lanes, {"maintenance": 10}, Rules(), LimitUsage())

    assert rows_of(chosen) == {("now", "probe"): 10}


# ---- holds


def test_a_hold_holds_where_all_that_it_names_is_true():
    lanes = [lane("a"), lane("a", job="other"), lane("b")]
    holds = [Pause(None, "a", "probe")]

    chosen = shares(lanes, {"maintenance": 10}, Rules(holds), LimitUsage())

    assert set(rows_of(chosen)) == {("a", "other"), ("b", "probe")}


# ---- limits


def test_room_that_a_limited_tenant_cannot_use_goes_to_the_others():
    lanes = [lane("limited"), lane("free")]
    rules = Rules(limits=[limit(tenant_id="limited", concurrency_max=3)])
    use = LimitUsage(in_flight=[InFlight("limited", "probe", "", 2, 0)])

    chosen = shares(lanes, {"maintenance": 100}, rules, use)

    assert rows_of(chosen) == {("limited", "probe"): 1, ("free", "probe"): 99}


def test_a_tenants_own_limit_takes_the_place_of_its_tiers():
    lanes = [lane("own"), lane("plain")]
    rules = Rules(
        limits=[
            limit(id="tier", tier="FREE", concurrency_max=2),
            limit(id="own", tenant_id="own", concurrency_max=7),
        ]
    )

    chosen = shares(lanes, {"maintenance": 100}, rules, LimitUsage())

    assert rows_of(chosen) == {("own", "probe"): 7, ("plain", "probe"): 2}


def test_a_limit_by_key_counts_each_key_by_itself_and_leaves_jobs_without_one_free():
    lanes = [lane(key="k1"), lane(key="k2", job="other"), lane(key="", job="free")]
    rules = Rules(limits=[limit(tier="FREE", per_key=True, concurrency_max=1)])
    use = LimitUsage(in_flight=[InFlight("t", "probe", "k1", 1, 0)])

    chosen = shares(lanes, {"maintenance": 10}, rules, use)

    assert rows_of(chosen)["t", "other"] == 1
    assert ("t", "probe") not in rows_of(chosen)
    assert rows_of(chosen)["t", "free"] > 1


def test_a_limit_of_a_kind_is_shared_by_all_tenants():
    lanes = [lane("a"), lane("b"), lane("a", job="other")]
    rules = Rules(limits=[limit(job="probe", concurrency_max=5)])
    use = LimitUsage(in_flight=[InFlight("c", "probe", "", 2, 0)])

    chosen = shares(lanes, {"maintenance": 100}, rules, use)

    found = rows_of(chosen)
    assert found["a", "probe"] + found["b", "probe"] == 3


def test_while_workers_are_away_only_half_a_second_of_a_rate_is_woken_up():
    lanes = [lane()]
    rules = Rules(limits=[limit(tier="FREE", rate_per_s=100.0)])

    chosen = shares(
        lanes, {"maintenance": 99}, rules, LimitUsage([InFlight("t", "probe", "", 50, 50)])
    )

    assert chosen == []


@given(
    rate=st.floats(0.5, 2_000.0),
    looks=st.lists(st.floats(0.001, 0.1), min_size=50, max_size=200),
    costs=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    by_cost=st.booleans(),
)
@settings(max_examples=examples(150))
def test_a_rate_is_exact_over_many_looks(rate, looks, costs, by_cost):
    """Looks at any pace, an endless lane: no more than rate x time + burst, and no less than it."""
    one = limit(tier="FREE", rate_per_s=rate, unit="cost" if by_cost else "jobs")
    where = Counter("l", "t", "")
    now = spent_until = 0.0
    started, row = 0.0, 0
    for pause_s in looks:
        now += pause_s
        use = LimitUsage(spent_s={where: max(0.0, spent_until - now)})
        waiting = lane(cost=costs[row % len(costs)])
        taken = []
        for share in shares([waiting], {"maintenance": 1_000}, Rules(limits=[one]), use):
            cost = 0
            while len(taken) < share.rows and cost < share.cost:
                taken.append(
                    Taken(Wakeup("j", "maintenance", 0), "t", "probe", "", costs[row % len(costs)])
                )
                cost += taken[-1].cost
                row += 1
        spent = dispatch.spent(taken, [waiting], Rules(limits=[one]))
        spent_until = max(spent_until, now) + spent.get(where, 0.0)
        started += sum(each.cost for each in taken) if by_cost else len(taken)

    burst = 1.0 + rate * dispatch.LOOK_S
    debt = max(costs) if by_cost else 1
    first = looks[0]  # nothing was free before the first look
    assert started <= rate * (now - first) + burst + debt + 1e-6
    assert started >= rate * (now - first) - debt - 1e-6 or started >= 1_000 * math.floor(
        len(looks)
    )
