"""Postgres itself crashes: what commits without waiting for the disk is done again, once."""

import os
import select
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import db, embedded, embedded_postgres, migration
from shared.contracts import Probe
from shared.errors import ServerUnavailable
from shared.settings import Settings
from tests.acceptance.conftest import Plant, all_ended, states
from tests.factories import make_tenant, publish_jobs, rows

JOBS = 600
CRASHES = 4


@pytest.fixture
def home():
    home = Path(tempfile.mkdtemp(prefix="ailydian-crash-"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def durable_plant(home):
    """A plant on servers of its own that keep what they have acknowledged."""
    with embedded.use(Settings(home=home), durable=True) as servers:
        migration.migrate(servers.database_url)
        db.open_pool(servers.database_url)
        plant = Plant(servers.database_url, servers.redis_url)
        yield plant
        plant.close()
        db.close_pool()


def crash(home: Path) -> None:
    """End Postgres as `pg_ctl stop -m immediate` does, and start it: it recovers from its log."""
    postmaster = int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    watched = os.pidfd_open(postmaster)
    os.kill(postmaster, signal.SIGQUIT)
    assert select.select([watched], [], [], 30)[0], "Postgres did not end"
    os.close(watched)
    embedded_postgres.start(home, durable=True)


def with_postgres(true: Callable[[], object]) -> Callable[[], object]:
    """A question whose answer is no while the pool still hands out broken connections."""

    def asked() -> object:
        try:
            return true()
        except ServerUnavailable:
            return False

    return asked


@pytest.mark.timeout(180)
def test_postgres_crashing_under_load_loses_and_doubles_nothing(durable_plant, home):
    tenant = make_tenant()
    durable_plant.start_relay()
    durable_plant.start_workers()

    publish_jobs(tenant, [Probe(n=n, mode="statement") for n in range(JOBS)])
    for crashed in range(1, CRASHES + 1):
        enough = crashed * JOBS // 8
        durable_plant.until(with_postgres(lambda least=enough: done() >= least))
        crash(home)
    durable_plant.until(with_postgres(all_ended))

    durable_plant.close()
    db.open_pool(durable_plant.database_url)
    assert states() == {"COMPLETED": JOBS}
    entries = rows('SELECT count(*), count(DISTINCT "jobId") FROM "ProbeEntry"')
    assert entries == [(JOBS, JOBS)]


def done() -> int:
    return states().get("COMPLETED", 0)
