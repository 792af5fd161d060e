"""Dispatch decisions: fair shares between tenants, pauses, limits. Pure: no clock, no tables.

Rates follow the generic cell rate algorithm (ITU-T I.371): one number per counter, the time until
which it is spent. Each round takes what has become free since; in a steady flow nothing is
rounded away, so over many rounds the rate is exact.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from producers.queries.ledger.job_limits import Counter, InFlight, Limit
from producers.queries.ledger.pauses import Pause
from shared.queries.ledger.dispatches import Lane, Share, Taken

AGEING_S = 30.0
# Maximum time between rounds while something waits: what a rate frees meanwhile is one burst.
LOOK_S = 0.1
# Unclaimed wake-ups of a limited rate are bounded to this time: returning workers would
# otherwise start them all at once.
UNCLAIMED_S = 0.5


@dataclass(frozen=True, slots=True)
class Rules:
    """Pauses and limits set by operators."""

    pauses: Sequence[Pause] = ()
    limits: Sequence[Limit] = ()

    def is_paused(self, lane: Lane) -> bool:
        """Whether a lane is paused."""
        return any(
            pause.queue in (None, lane.queue)
            and pause.tenant_id in (None, lane.tenant_id)
            and pause.job in (None, lane.job)
            for pause in self.pauses
        )

    def of(self, lane: Lane) -> list[tuple[Limit, Counter]]:
        """Return the limits of a lane and their counters; a tenant's own before its tier's."""
        own = {(one.job, one.per_key) for one in self.limits if one.tenant_id == lane.tenant_id}
        return [
            (limit, counter(limit, lane))
            for limit in self.limits
            if limit.job in (None, lane.job)
            and limit.tenant_id in (None, lane.tenant_id)
            and (lane.limit_key or not limit.per_key)
            and (
                limit.tier is None
                or (limit.tier == lane.tier and (limit.job, limit.per_key) not in own)
            )
        ]


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """Current usage of the limits.

    Attributes:
        in_flight: Jobs in flight, by tenant, kind and key.
        spent_s: For how many seconds each rate is spent; missing ones are not spent.
    """

    in_flight: Sequence[InFlight] = ()
    spent_s: Mapping[Counter, float] = field(default_factory=dict)


def counter(limit: Limit, lane: Lane | Taken | InFlight) -> Counter:
    """Return a limit's counter of a lane: one per tenant, unless it limits a kind alone."""
    of_tenant = limit.tenant_id is not None or limit.tier is not None or limit.per_key
    return Counter(
        limit.id, lane.tenant_id if of_tenant else "", lane.limit_key if limit.per_key else ""
    )


def shares(
    lanes: Iterable[Lane], room: Mapping[str, int], rules: Rules, use: LimitUsage
) -> list[Share]:
    """Decide how many rows of which lanes to dispatch now.

    Args:
        lanes: The lanes seen.
        room: Free wake-ups of each queue.
        rules: Pauses and limits.
        use: Current usage of the limits.

    Returns:
        Shares of at least one row; those of a queue never have more rows than its room, counting
        each tenant's `tenant_rows` once.
    """
    due = [lane for lane in lanes if lane.due_s >= 0 and room.get(lane.queue)]
    due = [lane for lane in due if not rules.is_paused(lane)]
    due.sort(key=lambda lane: -(lane.due_s + lane.priority * AGEING_S))
    caps = _caps(due, rules, use)
    queues: dict[str, dict[str, list[Lane]]] = defaultdict(lambda: defaultdict(list))
    for lane in due:
        if caps[id(lane)][0] > 0:
            queues[lane.queue][lane.tenant_id].append(lane)
    chosen = []
    for queue, tenants in queues.items():
        wanted = {
            tenant: sum(min(caps[id(lane)][0], room[queue]) for lane in of_tenant)
            for tenant, of_tenant in tenants.items()
        }
        granted = divide(room[queue], wanted)
        for tenant, rows in granted.items():
            for lane in tenants[tenant]:
                most, cost = caps[id(lane)]
                chosen.append(Share(lane, min(most, rows), cost, rows))
    return chosen


def divide(room: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """Divide room between tenants in equal parts; unused parts go to the others.

    Args:
        room: Rows.
        wanted: Maximum of each tenant, longest waiting first.

    Returns:
        Rows by tenant, zeros left out. With more tenants than room the first get one each.
        Source: max-min fairness by progressive filling.
    """
    level, left = 0, len(wanted)
    unfilled = room
    for rows in sorted(wanted.values()):
        level = unfilled // left
        if rows > level:
            break
        unfilled -= rows
        left -= 1
    granted = {tenant: min(rows, level) for tenant, rows in wanted.items()}
    over = room - sum(granted.values())  # less than a row for each that wants more
    for tenant, rows in wanted.items():
        if over and granted[tenant] < rows:
            granted[tenant] += 1
            over -= 1
    return {tenant: rows for tenant, rows in granted.items() if rows}


def spent(taken: Iterable[Taken], lanes: Iterable[Lane], rules: Rules) -> dict[Counter, float]:
    """Return how many seconds of each rate the dispatched jobs spend."""
    of_lane = {
        (lane.tenant_id, lane.job, lane.limit_key): [
            (limit, where) for limit, where in rules.of(lane) if limit.rate_per_s
        ]
        for lane in lanes
    }
    seconds: dict[Counter, float] = defaultdict(float)
    for row in taken:
        for limit, where in of_lane[row.tenant_id, row.job, row.limit_key]:
            assert limit.rate_per_s is not None
            units = row.cost if limit.unit == "cost" else 1
            seconds[where] += units / limit.rate_per_s
    return dict(seconds)


def free(limit: Limit, in_flight: int, unclaimed: int, spent_s: float) -> tuple[float, float]:
    """Return what a counter still allows.

    Returns:
        Rows and cost, each infinity if the limit does not bound it.
    """
    rows = cost = math.inf
    if limit.concurrency_max is not None:
        rows = max(0, limit.concurrency_max - in_flight)
    if limit.rate_per_s is not None:
        # A round comes late for what is free: by so much the next may come early.
        burst_s = limit.burst / limit.rate_per_s + LOOK_S
        units = (burst_s - spent_s) * limit.rate_per_s
        if limit.unit == "cost":
            # The last job may cost more than is left: the debt delays the next ones.
            cost = max(0.0, units)
        else:
            ahead = max(1, math.ceil(limit.rate_per_s * UNCLAIMED_S))
            rows = min(rows, max(0, math.floor(units + 1e-9)), max(0, ahead - unclaimed))
    return rows, cost


def _caps(due: Sequence[Lane], rules: Rules, use: LimitUsage) -> dict[int, tuple[int, float]]:
    """Return the maximum rows and cost per lane: a counter's free part is divided by lanes.

    A lane blocked by one counter gets no part of the others: it could not use it, and would delay
    the lanes behind it.
    """
    unbounded = (2**31 - 1, math.inf)
    caps: dict[int, tuple[int, float]] = {id(lane): unbounded for lane in due}
    sharing: dict[Counter, list[int]] = defaultdict(list)
    limits: dict[Counter, Limit] = {}
    for lane in due:
        for limit, where in rules.of(lane):
            sharing[where].append(id(lane))
            limits[where] = limit
    left = {}
    for where, lanes in sharing.items():
        in_flight, unclaimed = _in_flight(limits[where], where, use.in_flight)
        left[where] = free(limits[where], in_flight, unclaimed, use.spent_s.get(where, 0.0))
        if left[where][0] < 1 or left[where][1] <= 0:
            caps.update(dict.fromkeys(lanes, (0, 0.0)))
    for where, lanes in sharing.items():
        rows, cost = left[where]
        able = {str(lane): caps[lane][0] for lane in lanes if caps[lane][0]}
        if rows < math.inf:
            granted = divide(int(rows), able)
            for lane_id in able:
                caps[int(lane_id)] = granted.get(lane_id, 0), caps[int(lane_id)][1]
        if cost < math.inf:
            for lane_id in able:
                most, cost_most = caps[int(lane_id)]
                caps[int(lane_id)] = most, min(cost_most, cost / len(able))
    return caps


def _in_flight(limit: Limit, where: Counter, in_flight: Iterable[InFlight]) -> tuple[int, int]:
    counted = [
        one for one in in_flight if limit.job in (None, one.job) and counter(limit, one) == where
    ]
    return sum(one.in_flight for one in counted), sum(one.unclaimed for one in counted)
