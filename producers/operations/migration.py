"""Bring a database to the schema of this version: under a lock, in one transaction, once."""

import hashlib
from dataclasses import dataclass
from typing import Final

import psycopg

from producers.queries.operations import migrations
from shared import schema
from shared.contracts import CONTRACTS
from shared.errors import ServerUnavailable
from shared.models import catalogue

SCHEMA: Final = "schema"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did: the names applied now, and the version the database has."""

    applied: list[str]
    version: str


def migrate(database_url: str) -> Migrated:
    """Apply the schema when it has changed.

    That is safe to run while workers run, and a second call changes nothing.

    Args:
        database_url: A connection whose user may create tables and roles.

    Raises:
        ServerUnavailable: Postgres does not answer.
    """
    text = schema.text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        # Prepared statements are the session's, and behind a pooler that is somebody else's next.
        conn = psycopg.connect(database_url, connect_timeout=5, prepare_threshold=None)
    except psycopg.OperationalError as error:
        raise ServerUnavailable(f"Postgres does not answer: {error}") from error
    with conn:
        migrations.lock(conn)
        done = migrations.select_applied(conn)
        applied = []
        if done.get(SCHEMA) != digest:
            conn.execute(text.encode())
            migrations.note(conn, SCHEMA, digest)
            applied.append(SCHEMA)
        kinds = [
            (kind.actor_name, kind.queue_name, kind.schema_version, kind.attempts_max)
            for kind in CONTRACTS.values()
        ]
        migrations.put_job_kinds(conn, kinds)
        if applied:
            with migrations.as_owner(conn):
                catalogue.seed(conn)
        newest = hashlib.sha256("".join(migrations.select_applied(conn).values()).encode())
    return Migrated(applied, f"1-{newest.hexdigest()[:8]}")
