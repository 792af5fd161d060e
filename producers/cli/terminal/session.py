"""A command's connection to its servers: opened late, closed always."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psutil
import psycopg
import structlog

from producers.operations import migration
from producers.queries.ledger import queue_figures
from shared import db
from shared.db import Role
from shared.errors import ServerUnavailable, TenantNotFound, UserNotFound
from shared.ids import TenantId, UserId
from shared.ledger import outbox
from shared.models import spending
from shared.observability import telemetry
from shared.queries.accounts import accounts
from shared.servers import embedded
from shared.servers.embedded import Servers
from shared.settings import settings

log = structlog.get_logger()

POOL_SIZE = 6


@contextmanager
def opened(*, role_of_its_own: bool = False, migrated: bool = True) -> Iterator[Servers]:
    """Have servers, a schema and this process's pool while the block runs.

    Args:
        role_of_its_own: A long-running role logs as it is told to; a command for people says by
            itself what it does, and logs warnings only.
        migrated: Whether an embedded database is brought to this version's schema first. A real
            one is migrated by people alone.

    Yields:
        The servers.

    Raises:
        ServerUnavailable: A server does not answer.
        ConfigurationBroken: A setting is missing or unsafe.
    """
    config = settings()
    quiet = config.log_level == "info" and not role_of_its_own
    telemetry.configure("warning" if quiet else config.log_level)
    with embedded.use(config) as servers:
        if migrated and config.database_url is None:
            migration.migrate(servers.database_url)
        db.open_pool(
            servers.database_url, size=POOL_SIZE, prepared_statements=config.prepared_statements
        )
        # A role says itself for whom it publishes.
        named = nullcontext() if role_of_its_own else outbox.published_by(actor())
        try:
            with named:
                yield servers
        finally:
            _report_uses()
            db.close_pool()


def _report_uses() -> None:
    """Tell the ledger what this process asked of models; figures are no reason to fail."""
    try:
        spending.flush()
    except (ServerUnavailable, psycopg.Error) as error:
        log.warning("model_uses.not_told", error=type(error).__name__)


def actor() -> str:
    """Who acts, as the audit log names them: the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container whose user has no name
        return f"cli:{os.getuid()}"


def tenant_named(slug: str) -> TenantId:
    """The id of the tenant with this slug.

    Raises:
        TenantNotFound: There is none; the message says how to make it.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_tenant_id(conn, slug)
    if found is None:
        raise TenantNotFound(
            f"No tenant has the slug {slug!r}: create it with `ailydian tenant create {slug}`."
        )
    return found


def user_named(tenant_id: TenantId, name: str) -> UserId:
    """The id of one of a tenant's people, by e-mail or id.

    Raises:
        UserNotFound: The tenant has nobody of that name.
    """
    with db.transaction(tenant_id) as conn:
        found = accounts.select_user_id(conn, name)
    if found is None:
        raise UserNotFound(
            f"The tenant has nobody called {name!r}: name them by e-mail or id, or make them with "
            f"`ailydian user create`."
        )
    return found


def queues_served() -> set[str]:
    """The queues that have a live worker process."""
    with db.transaction(None, role=Role.RELAY) as conn:
        processes = queue_figures.select_processes(conn)
    here = socket.gethostname()
    # One that was killed is in the table a little longer; of this machine's we know better.
    live = [one for one in processes if one.host != here or psutil.pid_exists(one.pid)]
    return {queue for one in live for queue in one.queues}
