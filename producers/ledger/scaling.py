"""Autoscaling decisions: processes per queue, up fast, down slowly, within bounds.

Pure: `producers.cli.roles.autoscale` reads the figures and applies the decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

GROWTH_MAX = 2.0
CALM_SHARE = 0.5
BUSY_SHARE = 0.7
CPU_FULL = 0.95


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a queue and its workers.

    Attributes:
        ready: Jobs that are due and not begun.
        running: Running jobs.
        oldest_s: For how long the oldest ready job has been due.
        processes: Processes that serve it now.
        threads: Threads of one process.
    """

    ready: int
    running: int
    oldest_s: float
    processes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits set by the operator.

    Attributes:
        total_max: Maximum processes over all queues.
        queue_min: Processes of an idle queue.
        target_lag_s: How long a due job may wait.
        calm_s: How long a queue must be calm before it loses a process.
        cores: CPU cores of this machine.
    """

    total_max: int
    queue_min: int
    target_lag_s: float
    calm_s: float
    cores: int = 1


@dataclass(frozen=True, slots=True)
class Need:
    """The processes a queue needs, and since when it would need fewer; None while it is busy.

    `risen_at` is when it last grew: what was added then must have had time to work.
    """

    processes: int
    calm_since_s: float | None = None
    risen_at_s: float | None = None


def next_need(before: Need, load: Load, bounds: Bounds, now_s: float, *, cpu_share: float) -> Need:
    """Decide how many processes a queue needs, from its last need and its load.

    Late, it grows by as much as it is late, at most doubled at once, and again only when those
    it got are there and had the time to catch up. Calm for `calm_s`, it loses one process. In
    between nothing changes: that is what keeps noise from moving it.

    Args:
        before: What was decided last.
        load: The queue now.
        bounds: The limits set by the operator.
        now_s: Seconds on any clock that does not jump.
        cpu_share: How busy this machine's processors are, in [0, 1]. When they are full, a queue
            that has as many processes as there are gets nothing from more.
    """
    at_least, at_most = bounds.queue_min, bounds.total_max
    if load.ready and before.processes == 0:
        return Need(min(max(1, at_least), at_most), None, now_s)
    if load.ready and load.oldest_s > bounds.target_lag_s:
        risen_s = None if before.risen_at_s is None else now_s - before.risen_at_s
        settled = risen_s is None or risen_s >= bounds.target_lag_s
        full = cpu_share >= CPU_FULL and before.processes >= bounds.cores
        if full or not settled or load.processes < before.processes:
            return replace(before, calm_since_s=None)
        late = min(load.oldest_s / bounds.target_lag_s, GROWTH_MAX)
        useful = before.processes + ceil(load.ready / load.threads)
        grown = min(ceil(before.processes * late), useful, at_most)
        return Need(max(grown, before.processes, at_least), None, now_s)
    if not _is_calm(before, load, bounds) or before.processes <= at_least:
        return replace(before, processes=max(before.processes, at_least), calm_since_s=None)
    since = now_s if before.calm_since_s is None else before.calm_since_s
    if now_s - since < bounds.calm_s:
        return replace(before, calm_since_s=since)
    return replace(before, processes=before.processes - 1, calm_since_s=now_s)


def _is_calm(before: Need, load: Load, bounds: Bounds) -> bool:
    """Whether one process less would still suffice."""
    room = load.threads * (before.processes - 1)
    if room == 0 and (load.ready or load.running):
        return False
    return load.oldest_s <= bounds.target_lag_s * CALM_SHARE and load.running <= room * BUSY_SHARE


def shares(needs: Mapping[str, Need], bounds: Bounds) -> dict[str, int]:
    """Divide the processes that are allowed among the queues that need them.

    Every queue gets its smallest number first, in the order given; the rest goes one by one to
    the queue that has the smallest part of its need.

    Returns:
        Processes by queue: never more than a queue needs or `queue_min`, `total_max` in all.
    """
    given = dict.fromkeys(needs, 0)
    left = bounds.total_max
    for queue in given:
        given[queue] = min(bounds.queue_min, left)
        left -= given[queue]
    while left:
        short = [queue for queue, need in needs.items() if given[queue] < need.processes]
        if not short:
            break
        poorest = min(short, key=lambda queue: given[queue] / needs[queue].processes)
        given[poorest] += 1
        left -= 1
    return given
