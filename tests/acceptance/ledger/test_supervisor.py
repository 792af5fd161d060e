"""Worker processes come and go: killed, grown too large, restarted, stopped. No job notices."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.acceptance.conftest import ROOT, all_ended, states
from tests.support import slow_jobs
from tests.support.factories import job, make_tenant, publish_jobs, rows
from tests.support.patience import patience
from tests.support.slow_jobs import Chore

PLUGINS = f"tests.support.misbehaving_jobs,{slow_jobs.__name__}"
SERVING = """SELECT "pid" FROM "WorkerProcess" WHERE "role" = 'worker'"""
MB = 1024 * 1024


@pytest.fixture
def tenant(pool):
    return make_tenant()


def start(plant, **settings):
    plant.start_relay()
    settings = {"processes": 2, "plugins": PLUGINS} | settings
    plant.start_workers(**settings)
    plant.until(lambda: len(serving()) == settings["processes"])


def supervisor(plant):
    return plant.workers()[0].parent()


def publish_chores(tenant, count, **fields):
    return publish_jobs(tenant, [Chore(n=n, **fields) for n in range(count)])


def serving():
    """The pids of the worker processes that the ledger has heard of."""
    return {pid for (pid,) in rows(SERVING)}


def assert_each_once(count):
    assert states() == {"COMPLETED": count}
    assert rows('SELECT count(*), count(DISTINCT "jobId") FROM "ProbeEntry"') == [(count, count)]


@contextmanager
def busy_processors(count):
    """Processes that use every processor as much as they are let."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.timeout(60)
def test_only_the_dead_child_is_replaced_and_within_two_seconds(plant, tenant):
    start(plant)
    before = plant.workers()

    began = time.monotonic()
    before[0].kill()
    plant.until(lambda: len(serving() - {one.pid for one in before}) == 1)
    took_s = time.monotonic() - began

    assert before[1].is_running()
    assert before[1].pid in serving()
    assert took_s <= patience(2.0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("how", "signal_name", "code"),
    [("crash", "SIGSEGV", None), ("exit", None, 3), ("exit_well", None, 0)],
)
def test_a_crash_is_noted_with_its_signal_or_code_and_peak_memory(
    plant, tenant, how, signal_name, code
):
    start(plant, processes=1)

    [crashing] = publish_jobs(tenant, [Chore(how=how)])
    plant.until(lambda: job(crashing)["state"] == "DEAD")

    noted = rows('SELECT "verdict", "signal", "exitCode", "peakBytes" > 20e6 FROM "JobAttempt"')
    assert noted == [("crashed", signal_name, code, True)] * 3
    if how == "crash":
        assert rows('SELECT min("peakBytes") > %s FROM "JobAttempt"', 100 * MB) == [(True,)]
    how_it_ended = f"signal {signal_name}" if signal_name else f"exit code {code}"
    assert rows('SELECT "reason", "error" FROM "DeadLetter"') == [
        ("poison", f"The worker process died: {how_it_ended}.")
    ]


@pytest.mark.timeout(60)
def test_a_job_that_ends_its_process_as_if_all_were_well_costs_itself_alone(plant, tenant):
    start(plant, processes=1, threads=1)

    [leaving] = publish_jobs(tenant, [Chore(how="exit_well", n=9)])
    ids = publish_chores(tenant, 3)
    plant.until(lambda: states() == {"DEAD": 1, "COMPLETED": len(ids)})

    assert job(leaving)["crashes"] == 3
    assert rows('SELECT DISTINCT "jobId", "errorType", "exitCode" FROM "JobAttempt"') == [
        (leaving, "WorkerCrashed", 0)
    ]
    assert [job(one)["attempt"] for one in ids] == [1] * len(ids)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("settings", "how"),
    [({"worker_rss_mb_max": 150}, "grow"), ({"worker_jobs_max": 5}, "well")],
)
def test_a_worn_child_goes_when_its_replacement_takes_jobs(plant, tenant, settings, how):
    start(plant, processes=1, **settings)
    [worn] = plant.workers()

    ids = publish_jobs(tenant, [Chore(how=how)]) + publish_chores(tenant, 5, takes_s=0.2)
    seen = []

    def replaced():
        seen.append(serving())
        return worn.pid not in seen[-1]

    plant.until(replaced)
    plant.until(all_ended)

    assert all(seen)
    assert_each_once(len(ids))
    assert rows('SELECT 1 FROM "JobAttempt"') == []
    assert [one.pid for one in plant.workers()] != [worn.pid]


@pytest.mark.timeout(60)
def test_a_child_that_lost_a_thread_ends_and_is_replaced(plant, tenant):
    start(plant, processes=1, threads=2)
    [broken] = plant.workers()
    long = publish_chores(tenant, 1, takes_s=1.5)
    plant.until(lambda: states() == {"RUNNING": 1})

    publish_jobs(tenant, [Chore(how="lose_thread", n=9)])
    plant.until(lambda: rows('SELECT 1 FROM "ProbeEntry" WHERE "n" = 9'))
    began = time.monotonic()
    plant.until(lambda: serving() - {broken.pid})
    took_s = time.monotonic() - began
    plant.until(all_ended)
    plant.until(lambda: broken.pid not in serving())
    gone_s = time.monotonic() - began

    assert took_s <= patience(5.0)
    assert gone_s < patience(20)  # its grace would be 30
    assert job(long[0])["attempt"] == 1
    assert_each_once(2)
    assert rows('SELECT 1 FROM "JobAttempt"') == []


@pytest.mark.timeout(120)
def test_a_rolling_restart_under_load_loses_and_repeats_nothing(plant, tenant):
    start(plant)
    old = {one.pid for one in plant.workers()}
    ids = publish_chores(tenant, 300, takes_s=0.02)
    plant.until(lambda: states().get("COMPLETED", 0) >= 20)

    supervisor(plant).send_signal(signal.SIGHUP)
    seen = []

    def replaced():
        seen.append(serving())
        if states().get("PENDING", 0) < 50:
            first = 10_000 + len(ids)
            more = [Chore(takes_s=0.02, n=first + n) for n in range(50)]
            ids.extend(publish_jobs(tenant, more))
        return not old & seen[-1]

    plant.until(replaced)
    plant.until(all_ended)

    assert all(len(pids) >= 2 for pids in seen)

    assert_each_once(len(ids))
    assert rows('SELECT max("attempt") FROM "Job"') == [(1,)]
    assert rows('SELECT 1 FROM "JobAttempt"') == []
    plant.until(lambda: len(plant.workers()) == 2)  # the last one that goes has signed off before


@pytest.mark.timeout(60)
def test_a_restart_from_another_shell_replaces_every_child(plant, tenant):
    start(plant)
    old = {one.pid for one in plant.workers()}
    above = supervisor(plant)

    said = subprocess.run(
        [sys.executable, "-m", "producers.cli", "work", "--restart", "--queue", "audit"],
        cwd=ROOT,
        env={
            "DATABASE_URL": plant.database_url,
            "REDIS_URL": plant.redis_url,
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        check=True,
    )
    plant.until(lambda: len(serving() - old) == 2 and not serving() & old)

    assert "1 supervisor" in said.stdout
    assert supervisor(plant) == above


@pytest.mark.timeout(60)
def test_a_stop_hands_back_what_waits_at_once_and_lets_what_runs_end(plant, tenant):
    start(plant, processes=1, threads=2, grace_s=patience(30))
    publish_chores(tenant, 40, takes_s=0.01)  # a pace at which many are claimed ahead
    plant.until(all_ended)
    ids = publish_chores(tenant, 40, takes_s=patience(4.0))
    plant.until(lambda: states().get("RUNNING", 0) > 2)  # two run, the others wait there

    began = time.monotonic()
    supervisor(plant).terminate()
    plant.until(lambda: states()["RUNNING"] <= 2)
    handed_back_s = time.monotonic() - began
    plant.stop_workers()

    assert handed_back_s <= patience(1.0)
    assert states() == {"COMPLETED": 42, "PENDING": 38}
    assert {(job(one)["state"], job(one)["attempt"]) for one in ids} == {
        ("COMPLETED", 1),
        ("PENDING", 0),
    }
    assert rows('SELECT 1 FROM "JobFlight"') == [] or rows(
        'SELECT DISTINCT "state" FROM "Job" JOIN "JobFlight" ON "jobId" = "id"'
    ) == [("PENDING",)]


@pytest.mark.timeout(60)
def test_a_job_that_outlasts_the_grace_goes_back_and_loses_no_attempt(plant, tenant):
    start(plant, processes=1, grace_s=0.5)
    [long] = publish_chores(tenant, 1, takes_s=30.0)
    plant.until(lambda: states() == {"RUNNING": 1})

    took_s = plant.stop_workers()

    assert took_s < patience(10)
    assert (job(long)["state"], job(long)["attempt"], job(long)["crashes"]) == ("PENDING", 0, 0)
    assert rows('SELECT 1 FROM "JobAttempt"') == []
    assert serving() == set()


@pytest.mark.timeout(60)
def test_a_storm_of_signals_is_one_stop(plant, tenant):
    start(plant)
    [running] = publish_chores(tenant, 1, takes_s=2.0)
    plant.until(lambda: states() == {"RUNNING": 1})
    above, children = supervisor(plant), plant.workers()

    for _ in range(200):
        for process in (above, *children):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGHUP)
    plant.stop_workers()

    assert (job(running)["state"], job(running)["attempt"]) == ("COMPLETED", 1)
    assert not any(process.is_running() for process in children)


@pytest.mark.timeout(60)
def test_children_do_not_outlive_a_supervisor_that_was_killed(plant, tenant):
    start(plant)
    [running] = publish_chores(tenant, 1, takes_s=1.0)
    plant.until(lambda: states() == {"RUNNING": 1})
    children = plant.workers()

    supervisor(plant).kill()
    plant.until(lambda: not any(one.is_running() for one in children))

    assert (job(running)["state"], job(running)["attempt"]) == ("COMPLETED", 1)
    assert serving() == set()


@pytest.mark.timeout(60)
def test_leases_survive_processors_that_others_use_up(plant, tenant):
    start(plant, lease_s=patience(3))
    with busy_processors(2 * (os.cpu_count() or 1)):
        ids = publish_chores(tenant, 6, takes_s=6.0)
        plant.until(all_ended)

    assert_each_once(len(ids))
    assert rows('SELECT 1 FROM "JobAttempt"') == []


@pytest.mark.timeout(60)
def test_a_process_tells_the_ledger_how_it_is(plant, tenant):
    start(plant, processes=1, threads=4)
    publish_chores(tenant, 3)
    plant.until(all_ended)
    publish_chores(tenant, 1, takes_s=5.0, how="slow")

    def figures():
        return rows('SELECT "figures" FROM "WorkerProcess" WHERE "role" = \'worker\'')[0][0]

    plant.until(lambda: figures()["busy"] == 1)

    assert figures()["rssBytes"] > 20 * MB
    assert figures() | {"rssBytes": 0, "cpuS": 0} == {
        "rssBytes": 0, "cpuS": 0, "threads": 4, "threadsAlive": 4, "busy": 1, "held": 1,
        "done": 3, "redisOk": True, "stopping": False,
    }  # fmt: skip
