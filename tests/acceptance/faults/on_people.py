"""Faults that come from outside: wrong clocks, a tenant that floods, operators who press twice."""

import random
import threading

from producers.ledger import dead_actions
from producers.queries.ledger import dead_letters
from shared.ids import JobId, TenantId
from tests.acceptance.faults import clock
from tests.acceptance.faults.on_workers import LOST
from tests.acceptance.faults.plant import TENANTS, Plant
from tests.support.patience import patience

HOUR_S, DAY_S = 3_600.0, 86_400.0
WAIT_S_MAX = 2.0
WAITS = """
    SELECT extract(epoch FROM "startedAt" - "dueAt")::float8 FROM "Job"
    WHERE "id" = ANY(%s) AND "startedAt" IS NOT NULL ORDER BY 1
"""


def shift_clocks(plant: Plant, rng: random.Random) -> None:
    """31: clocks an hour off, a week ahead, a day behind, jumping and fast: no lease is lost."""
    plant.until(plant.is_calm)
    [(before,)] = plant.rows(LOST)
    [(dead,)] = plant.rows('SELECT count(*) FROM "DeadLetter"')
    shifts = [HOUR_S, -HOUR_S, 8 * DAY_S, -DAY_S]
    for shift_s in rng.sample(shifts, len(shifts)):
        clock.set_clock(plant.switches, shift_s, speed=rng.choice([0.5, 1.0, 1.5]))
        plant.give(10, seconds=0.2)
        plant.pause(plant.seconds(15))
    clock.set_clock(plant.switches, 0.0)
    assert plant.rows(LOST) == [(before,)], "a lease was taken back by a worker's clock"
    assert plant.rows('SELECT count(*) FROM "DeadLetter"') == [(dead,)]


def flood(plant: Plant, _: random.Random) -> None:
    """42: one tenant queues far more than can be done; another's jobs start all the same."""
    jobs = plant.tasks(TENANTS[0], int(plant.seconds(15_000)), how="plain")
    for start in range(0, len(jobs), 1_000):
        plant.publish(TENANTS[0], jobs[start : start + 1_000])
    small: list[JobId] = []
    for job in plant.tasks(TENANTS[1], 10):
        small += plant.publish(TENANTS[1], [job])
        plant.pause(0.05)
    plant.until(lambda: len(plant.rows(WAITS, small)) == len(small))
    slowest_s = plant.rows(WAITS, small)[-1][0]
    assert slowest_s < patience(WAIT_S_MAX), (
        f"a small tenant's job waited {slowest_s:.1f} s for a flood"
    )


def replay_under_fire(plant: Plant, rng: random.Random) -> None:
    """43: all dead letters are replayed by three people at once, while a worker dies."""
    plant.give(40, how="refuse")
    plant.until(plant.is_calm)
    ids = [JobId(row[0]) for row in plant.rows('SELECT "jobId" FROM "DeadLetter"')]
    replayed: list[tuple[JobId, TenantId]] = []

    def press() -> None:
        for start in range(0, len(ids), 20):
            page = ids[start : start + 20]
            moved = dead_actions.move_page(dead_letters.replay, "replay", page, {})
            replayed.extend((one.id, one.tenant_id) for one in moved)
            plant.acts += len({one.tenant_id for one in moved})

    people = [threading.Thread(target=press) for _ in range(3)]
    for person in people:
        person.start()
    rng.choice(plant.workers()).kill()
    for person in people:
        person.join()
    # Those that died again meanwhile were replayed again, by whoever came later: with reason.
    assert {job_id for job_id, _ in replayed} == set(ids)
