"""Faults of processes: killed, stopped, frozen, starved, out of memory, threads or files."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil

from tests.acceptance.faults import killpoints
from tests.acceptance.faults.jobs import Endless, Hungry
from tests.acceptance.faults.plant import QUEUES, TENANTS, Plant
from tests.support.patience import patience

LOST = """
    SELECT count(*) FROM "JobAttempt" WHERE "verdict" IN ('crashed', 'lapsed', 'timed_out')
"""
SILENT = """
    SELECT 1 FROM "WorkerProcess"
    WHERE "role" = 'worker' AND "seenAt" < now() - interval '2 seconds'
"""
POINT_PATIENCE_S = 30.0
# It ends by itself, should nobody be left to end it.
BURN = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\nwhile True: pass"


def kill_workers(plant: Plant, rng: random.Random) -> None:
    """1: SIGKILL of worker processes at random moments."""
    for _ in range(3):
        plant.pause(min(rng.expovariate(2.0), 1.0))
        plant.until(plant.workers)
        rng.choice(plant.workers()).kill()


def kill_at_points(plant: Plant, rng: random.Random, points: list[str] | None = None) -> None:
    """2: a process dies at each of the named points, which are gone through in random order."""
    points = killpoints.names() if points is None else points
    supervisors = [plant.stop(role) for role in plant.roles("supervisor")]
    waking = {point.name for point in killpoints.SUPERVISOR}
    for _ in range(4):
        plant.start("worker", "--queues", ",".join(QUEUES), "--threads", "4")
    for name in rng.sample([one for one in points if one not in waking], len(points) - len(waking)):
        _die_at(plant, name, rng)
    for role in plant.roles("worker"):
        plant.stop(role)
    for _ in supervisors:
        plant.start_workers()
    for name in sorted(waking & set(points)):
        _die_at(plant, name, rng)


def _die_at(plant: Plant, name: str, rng: random.Random) -> None:
    armed = killpoints.arm(plant.switches, name)
    given = time.monotonic()
    plant.load(10)
    client = plant.redis()
    while armed.exists():
        assert time.monotonic() < given + patience(POINT_PATIENCE_S), f"nobody came to: {name}"
        if "quarantined" in name:
            client.rpush("ailydian:queue:audit", rng.randbytes(20))
        if "refilled" in name or "lost wake-ups" in name:
            client.flushdb()
        if "lapsed" in name or "dead child" in name:
            for worker in plant.workers()[:1]:
                worker.kill()
            plant.pause(0.3)
        if "chunks" in name or "vectors" in name or "follow-up" in name:
            plant.submit(f"Text {plant.numbers(1)[0]}.")
        plant.pause(0.1)
        if time.monotonic() > given + 1:
            plant.load(4)
    client.close()


def deploy(plant: Plant, _: random.Random) -> None:
    """3: SIGTERM during jobs, the next version beside it: no attempt is lost."""
    plant.until(plant.is_calm)
    [(before,)] = plant.rows(LOST)
    plant.give(40, seconds=0.1)
    for role in plant.roles("supervisor"):
        plant.start_workers()
        assert plant.stop(role) == 0
    old = {worker.pid for worker in plant.workers()}
    for role in plant.roles("supervisor"):
        role.process.send_signal(signal.SIGHUP)
    plant.give(20, seconds=0.1)
    plant.until(lambda: not old & {worker.pid for worker in plant.workers()})
    plant.until(plant.is_calm)
    assert plant.rows(LOST) == [(before,)], "a job lost its attempt to a deployment"


def freeze(plant: Plant, rng: random.Random) -> None:
    """4: a process stands still for longer than its leases, then goes on with old ones."""
    plant.give(40, seconds=0.3)
    plant.until(lambda: plant.states().get("RUNNING"))
    worker = rng.choice(plant.workers())
    worker.suspend()
    plant.pause(plant.seconds(45))
    try:
        worker.resume()
    except psutil.NoSuchProcess:  # its supervisor has replaced it
        return
    plant.pause(0.3)


def run_out_of_memory(plant: Plant, _: random.Random) -> None:
    """5: the kernel kills for memory, which counts; and an allocation fails."""
    killed = plant.give(1, how="crash")
    plant.until(lambda: ended(plant, killed))  # who runs beside it is counted a crash as well
    [hungry] = plant.publish(TENANTS[0], [Hungry(n=plant.numbers(1)[0])])
    plant.until(lambda: ended(plant, [hungry]))
    letters = """SELECT d."reason", j."crashes" FROM "DeadLetter" d
                 JOIN "Job" j ON j."id" = d."jobId" WHERE d."jobId" = %s"""
    assert plant.rows(letters, killed[0]) == [("poison", 3)]
    assert plant.rows(letters, hungry) == [("exhausted", 0)]


def lose_a_thread(plant: Plant, _: random.Random) -> None:
    """7: a thread of a worker ends; its process is replaced, or the thread is."""
    plant.until(plant.is_calm)
    plant.until(lambda: len(plant.workers()) == len(plant.registered()))
    before = {worker.pid for worker in plant.workers()}
    ids = plant.give(1, how="lose_thread")
    plant.until(lambda: ended(plant, ids))
    took_s = plant.until(lambda: {worker.pid for worker in plant.workers()} != before)
    assert took_s < patience(5), f"the process without a thread was there for {took_s:.1f} s"


def ignore_the_time_limit(plant: Plant, _: random.Random) -> None:
    """8: one call in C that no exception reaches: the process is replaced, alone."""
    [endless] = plant.publish(TENANTS[0], [Endless(n=plant.numbers(1)[0])])
    plant.until(lambda: ended(plant, [endless]))
    [(kind,)] = plant.rows('SELECT "errorType" FROM "JobAttempt" WHERE "jobId" = %s', endless)
    # Nothing else runs in that process either: a short lease may lapse before the limit is over.
    assert kind in {"TimeLimitExceeded", "LeaseLapsed"}
    plant.until(lambda: not plant.rows(SILENT))


def kill_leaders(plant: Plant, rng: random.Random) -> None:
    """41: relays die one by one and together, and so does a supervisor."""
    relays = plant.roles("relay")
    for role in rng.sample(relays, len(relays)):
        role.process.kill()
        plant.give(10)
        plant.pause(0.3)
    for role in [*plant.roles("relay"), rng.choice(plant.roles("supervisor"))]:
        role.process.kill()
    plant.give(10)
    plant.pause(0.5)


def run_out_of_files(plant: Plant, rng: random.Random) -> None:
    """44: a process may open no more files for a while."""
    worker = rng.choice(plant.workers())
    before = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds(), before[1]))
    worker_connections(plant)
    plant.give(20)
    plant.pause(plant.seconds(20))
    if worker.is_running():
        worker.rlimit(psutil.RLIMIT_NOFILE, before)


def worker_connections(plant: Plant) -> None:
    """Make every worker open its connections anew."""
    plant.links["workers-postgres"].reset()
    plant.links["workers-redis"].reset()


def starve(plant: Plant, _: random.Random) -> None:
    """45: more busy processes than cores, with precedence: no lease is taken for lapsed."""
    plant.until(plant.is_calm)
    [(before,)] = plant.rows(LOST)
    command = [sys.executable, "-c", BURN]
    busy = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        plant.give(30, seconds=0.1)
        plant.pause(plant.seconds(40))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert plant.rows(LOST) == [(before,)], "a slow worker was taken for a dead one"


def lose_power(plant: Plant, _: random.Random) -> None:
    """50: SIGKILL of everything at once, servers too."""
    victims = [psutil.Process(plant.postmaster())]
    victims += [psutil.Process(role.process.pid) for role in plant.everyone()]
    victims += [child for one in victims for child in one.children(recursive=True)]
    victims.append(psutil.Process(int((plant.home / "valkey" / "pid").read_text())))
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(victims, patience(10))
    plant.start_servers()


def ended(plant: Plant, ids: list[str]) -> bool:
    """Whether these jobs have ended."""
    query = """SELECT count(*) FROM "Job" WHERE "id" = ANY(%s) AND "finishedAt" IS NOT NULL"""
    return bool(plant.rows(query, ids) == [(len(ids),)])
