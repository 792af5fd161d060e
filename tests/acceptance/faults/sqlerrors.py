"""What Postgres answers now and then, at random: deadlocks, serialization failures, shutdowns.

The answer is given in place of COMMIT, so the transaction is rolled back, as Postgres does it.
The switch is a file with the share of the COMMITs that shall fail.
"""

import os
import random
from pathlib import Path

import psycopg

from shared import db
from tests.acceptance.faults.clock import DIRECTORY

SWITCH = "sqlerrors"
ERRORS = [
    psycopg.errors.SerializationFailure,  # 40001
    psycopg.errors.DeadlockDetected,  # 40P01
    psycopg.errors.InFailedSqlTransaction,  # 25P02
    psycopg.errors.AdminShutdown,  # 57P01
]


def install() -> None:
    """Let COMMITs of this process fail by the switch."""
    directory = os.environ.get(DIRECTORY)
    if directory is None:
        return
    path, commit, rng = Path(directory) / SWITCH, db._commit, random.Random()

    def sometimes(conn: db.Connection) -> None:
        try:
            share = float(path.read_text())
        except (OSError, ValueError):
            share = 0.0
        if rng.random() >= share:
            commit(conn)
            return
        error = rng.choice(ERRORS)
        if error is psycopg.errors.AdminShutdown:
            conn.close()  # the server would
        raise error("asked for by a test")

    db._commit = sometimes
