"""Faults of Postgres: crashes, lost sessions, no room, locks, errors, commits nobody heard of."""

import contextlib
import os
import random
import select
import signal

import psycopg

from shared.servers import embedded_postgres
from tests.acceptance.faults import sqlerrors
from tests.acceptance.faults.plant import Plant


def restart_at_once(plant: Plant, _: random.Random) -> None:
    """16: `pg_ctl restart -m immediate`."""
    postmaster = plant.postmaster()
    watched = os.pidfd_open(postmaster)
    os.kill(postmaster, signal.SIGQUIT)
    assert select.select([watched], [], [], 30)[0], "Postgres did not end"
    os.close(watched)
    embedded_postgres.start(plant.home, durable=plant.durable)


def kill_a_backend(plant: Plant, rng: random.Random) -> None:
    """17: SIGKILL of one backend: Postgres ends all of them and recovers."""
    backends = plant.rows(
        """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
           AND pid <> pg_backend_pid() AND application_name = 'ailydian'"""
    )
    os.kill(rng.choice(backends)[0], signal.SIGKILL)


def terminate_sessions(plant: Plant, _: random.Random) -> None:
    """18: sessions are terminated, again and again."""
    for _round in range(4):
        with direct(plant) as conn:
            conn.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()
                     AND random() < 0.5"""
            )
        plant.give(6)
        plant.pause(plant.seconds(3))


def use_up_slots(plant: Plant, _: random.Random) -> None:
    """19: nobody gets a connection any more."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(plant.database_url, connect_timeout=5))
        plant.links["workers-postgres"].reset()
        plant.links["relays-postgres"].reset()
        plant.pause(plant.seconds(20))


def hold_locks(plant: Plant, _: random.Random) -> None:
    """20: a transaction that does nothing holds the locks of a DDL."""
    with direct(plant, autocommit=False) as conn:
        conn.execute('LOCK TABLE "Job", "JobFlight" IN ACCESS EXCLUSIVE MODE')
        plant.pause(plant.seconds(60))
        conn.rollback()


def answer_with_errors(plant: Plant, _: random.Random) -> None:
    """21: serialization failures, deadlocks, failed transactions and shutdowns, 1 in 20."""
    switch = plant.switches / sqlerrors.SWITCH
    switch.write_text("0.05")
    plant.give(60)
    plant.pause(plant.seconds(15))
    switch.unlink()


def lose_commits(plant: Plant, _: random.Random) -> None:
    """22: the connection is lost at COMMIT, and whether it was one nobody knows."""
    links = [plant.links["workers-postgres"], plant.links["relays-postgres"]]
    before = sum(link.lost for link in links)
    for link in links:
        link.commits_lost = 0.2
    plant.give(60)
    plant.until(lambda: sum(link.lost for link in links) - before >= 10)
    for link in links:
        link.heal()


def direct(plant: Plant, *, autocommit: bool = True) -> psycopg.Connection:
    """A superuser's connection that goes past every proxy and pool."""
    return psycopg.connect(plant.database_url, autocommit=autocommit)
