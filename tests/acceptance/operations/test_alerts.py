"""Each alert rule is shown its fault on real servers, and is silent before."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from producers.ledger import scheduler
from producers.operations import incident_sweep
from producers.queries.ledger import schedules
from producers.web.metrics import MetricsCollector, registry_of, text
from shared import db
from shared.contracts import QUEUES, Probe
from shared.db import Role
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from shared.queries.ledger import dispatches, workers
from shared.queries.ledger.workers import Process
from shared.servers import embedded_valkey
from tests.acceptance.conftest import Plant, all_ended
from tests.support import factories, promql
from tests.support.factories import claim, make_tenant, publish_jobs, publish_probe, rows
from tests.support.misbehaving_jobs import Pill
from tests.support.promql import Scrape
from tests.support.source_code import ROOT

RULES = {
    rule["alert"]: rule
    for rule in yaml.safe_load(
        (ROOT / "producers" / "web" / "monitoring" / "alerts.yaml").read_text()
    )["groups"][0]["rules"]
}
SCRAPE_EVERY_S = 60.0


class Scene:
    """A plant, and a Prometheus that has scraped it so far."""

    def __init__(self, plant: Plant, home: Path) -> None:
        self.plant, self.home = plant, home
        self.redis_url = plant.redis_url
        self.lost_postgres = False
        self._scrapes: list[Scrape] = []

    def firing(self) -> set[str]:
        """The alerts whose expression is true after one more scrape."""
        with wakeups.connect(self.redis_url, timeout_s=1.0) as client:
            figures = MetricsCollector(client, Wire("ailydian", factories.KEY))
            page = text(registry_of(figures)).decode()
            if self.lost_postgres:
                db.open_pool(self.plant.database_url)  # ends what still waits for the lost one
            figures.close()
        self._scrapes.append(Scrape.of(page, len(self._scrapes) * SCRAPE_EVERY_S))
        return {
            name for name, rule in RULES.items() if promql.evaluate(rule["expr"], self._scrapes)
        }

    def start_valkey(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.redis_url = embedded_valkey.start(self.home)


@pytest.fixture
def scene(plant, tmp_path_factory):
    found = Scene(plant, tmp_path_factory.mktemp("v"))
    yield found
    if found.redis_url != plant.redis_url:
        embedded_valkey.stop(found.home)


def change(statement: str, *values: object) -> None:
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(statement, values)


def wait_long(seconds: float) -> None:
    """What waits in the outbox has waited so long."""
    change("""UPDATE "JobOutbox" SET "dueAt" = now() - %s * interval '1 second'""", seconds)


def tell(threads_alive: int) -> None:
    """The sign of life of a worker process of four threads."""
    process = Process("w", "here", 1, "worker", ["audit"], 4)
    with db.transaction(None, role=Role.RELAY) as conn:
        workers.upsert_process(conn, process, {"threads": 4, "threadsAlive": threads_alive})


def nothing(scene: Scene) -> None: ...


def lose_postgres(scene: Scene) -> None:
    scene.lost_postgres = True
    db.open_pool("postgresql://127.0.0.1:1/nowhere")


def prepare_valkey(scene: Scene) -> None:
    scene.start_valkey()


def lose_redis(scene: Scene) -> None:
    embedded_valkey.stop(scene.home)


def fill_redis(scene: Scene) -> None:
    with wakeups.connect(scene.redis_url) as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))


def relay_counts(scene: Scene) -> None:
    scene.plant.start_relay()
    scene.plant.until(lambda: rows('SELECT 1 FROM "QueueState" WHERE "depthMax" > 0'))


def lose_relay(scene: Scene) -> None:
    scene.plant.close()
    change("""UPDATE "QueueState" SET "measuredAt" = now() - interval '16 s'""")
    change("""UPDATE "WorkerProcess" SET "seenAt" = now() - interval '16 s'""")


def scheduler_sweeps(scene: Scene) -> None:
    scheduler.put_sweep("platform")
    assert scheduler.sweep_if_due("platform", threading.Event())


def lose_scheduler(scene: Scene) -> None:
    change("""UPDATE "Schedule" SET "ranAt" = now() - interval '61 s'""")


def publish_for_nobody(scene: Scene) -> None:
    publish_probe(make_tenant())


def lose_thread(scene: Scene) -> None:
    tell(3)


def fall_silent(scene: Scene) -> None:
    change("""UPDATE "WorkerProcess" SET "seenAt" = now() - interval '16 s'""")


def wait_for_long(scene: Scene) -> None:
    publish_probe(make_tenant())
    wait_long(61)


def start_workers(scene: Scene) -> None:
    scene.plant.start_workers(processes=1)


def publish_without_relay(scene: Scene) -> None:
    publish_probe(make_tenant())
    wait_long(31)


def fill_queue(scene: Scene) -> None:
    publish_jobs(make_tenant(), [Probe(n=n) for n in range(9)])
    with db.transaction(None, role=Role.RELAY) as conn:
        dispatches.measure_depth(conn, list(QUEUES), depth_max=10)


def let_lease_lapse(scene: Scene) -> None:
    claim(publish_probe(make_tenant()))
    change("""UPDATE "Job" SET "leaseUntil" = now() - interval '1 s' WHERE "state" = 'RUNNING'""")


def start_plant(scene: Scene) -> None:
    scene.plant.start_relay()
    scene.plant.start_workers(processes=1)


def refuse(scene: Scene) -> None:
    publish_jobs(make_tenant(), [Pill(how="refuse", n=n) for n in range(6)])
    counted = """SELECT 1 FROM "JobStat" WHERE "job" = 'pill' AND "dead" = 6"""
    scene.plant.until(lambda: rows(counted))


def poison(scene: Scene) -> None:
    publish_jobs(make_tenant(), [Pill(how="crash")])
    scene.plant.until(lambda: rows("""SELECT 1 FROM "DeadLetter" WHERE "reason" = 'poison'"""))


def push_nonsense(scene: Scene) -> None:
    wire = Wire("ailydian", factories.KEY)
    with wakeups.connect(scene.redis_url) as client:
        client.rpush(wire.queue_key("audit"), b"nonsense")
    scene.plant.until(lambda: rows('SELECT 1 FROM "Quarantine"'))


def fail_schedule(scene: Scene) -> None:
    scheduler.put_sweep("platform")
    ((schedule_id,),) = rows('SELECT "id" FROM "Schedule"')
    with db.transaction(None, role=Role.RELAY) as conn:
        schedules.note(conn, schedule_id, "the platform's table is gone")


def let_incident_open(scene: Scene) -> None:
    publish_probe(make_tenant())
    wait_long(601)
    incident_sweep.sweep()


Step = Callable[[Scene], None]
# What stands before, and what then goes wrong.
FAULTS: dict[str, tuple[Step, Step]] = {
    "PostgresDown": (nothing, lose_postgres),
    "RedisDown": (prepare_valkey, lose_redis),
    "RedisNearlyFull": (prepare_valkey, fill_redis),
    "RelayDown": (relay_counts, lose_relay),
    "SchedulerDown": (scheduler_sweeps, lose_scheduler),
    "NoWorkers": (nothing, publish_for_nobody),
    "WorkerThreadDead": (lambda _: tell(4), lose_thread),
    "WorkerSilent": (lambda _: tell(4), fall_silent),
    "QueueLagHigh": (publish_for_nobody, wait_for_long),
    "QueueStuck": (start_workers, publish_without_relay),
    "QueueNearlyFull": (nothing, fill_queue),
    "LeasesOverdue": (nothing, let_lease_lapse),
    "JobFailuresHigh": (start_plant, refuse),
    "DeadLettersRising": (start_plant, refuse),
    "PoisonJob": (start_plant, poison),
    "QuarantineRising": (start_plant, push_nonsense),
    "ScheduleFailing": (scheduler_sweeps, fail_schedule),
    "IncidentOpen": (nothing, let_incident_open),
}


def test_each_rule_has_a_fault_here():
    assert FAULTS.keys() == RULES.keys()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_on_its_fault_and_not_before(alert, scene):
    before, fault = FAULTS[alert]
    before(scene)
    calm = scene.firing()

    fault(scene)

    assert alert not in calm
    assert alert in scene.firing()


@pytest.mark.timeout(90)
def test_a_plant_that_is_well_raises_no_alarm(scene):
    start_plant(scene)
    scheduler_sweeps(scene)
    publish_jobs(make_tenant(), [Probe(n=n, mode="statement") for n in range(50)])
    scene.plant.until(all_ended)
    scene.plant.until(lambda: rows('SELECT 1 FROM "JobStat" WHERE "completed" = 50'))
    first = scene.firing()
    publish_jobs(make_tenant(), [Pill(how="well", n=n) for n in range(50)])
    scene.plant.until(all_ended)

    second = scene.firing()

    assert first | second == set()
