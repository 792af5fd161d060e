"""What a long-running process tells the database of the plugins' jobs when it starts."""

import psycopg
import structlog

from shared import db, plugins
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.queries.ledger import job_kinds

log = structlog.get_logger()


def tell() -> None:
    """Register the plugins' jobs that the database does not know, for publishers in SQL.

    What has changed in a known one, such as its queue, `ailydian migrate` tells it. The process
    starts although the database cannot be written now.
    """
    kinds = [
        (one.actor_name, one.queue_name, one.schema_version, one.attempts_max, one.audience)
        for one in plugins.contracts()
    ]
    if not kinds:
        return
    try:
        with db.transaction(None, role=Role.RELAY) as conn:
            job_kinds.insert_missing(conn, kinds)
    except (ServerUnavailable, psycopg.Error) as error:
        log.warning("plugins.jobs_not_registered", error=db.sentence(error))
