"""What a long-running process tells the database of the plugins' jobs when it starts."""

import psycopg
import structlog

from shared import db, plugins
from shared.contract import Contract
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.queries.ledger import job_kinds
from shared.queries.ledger.job_kinds import JobKindRow

log = structlog.get_logger()


def row_of(contract: type[Contract]) -> JobKindRow:
    """Return what the database is told of a contract."""
    return JobKindRow(
        contract.actor_name,
        contract.queue_name,
        contract.schema_version,
        contract.attempts_max,
        contract.audience,
    )


def tell() -> None:
    """Register the plugins' jobs that the database does not know, for publishers in SQL.

    What has changed in a known one, such as its queue, `ailydian migrate` tells it. The process
    starts although the database cannot be written now.
    """
    kinds = [row_of(one) for one in plugins.contracts()]
    if not kinds:
        return
    try:
        with db.transaction(None, role=Role.RELAY) as conn:
            job_kinds.insert_missing(conn, kinds)
    except (ServerUnavailable, psycopg.Error) as error:
        log.warning("plugins.jobs_not_registered", error=db.sentence(error))
