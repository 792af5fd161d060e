"""A command's connection to its servers: opened late, closed always."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psycopg
import structlog

from producers.operations import migration
from shared import connections, db
from shared.db import Role
from shared.egress import targets
from shared.errors import ServerUnavailable, TenantNotFound
from shared.ids import TenantId
from shared.ledger import outbox, plugin_kinds
from shared.models import spending
from shared.observability import telemetry
from shared.queries.accounts import accounts
from shared.servers import embedded
from shared.servers.embedded import Servers
from shared.settings import settings

log = structlog.get_logger()


@contextmanager
def opened(
    *,
    role_of_its_own: bool = False,
    migrated: bool = True,
    connections_max: int = connections.COMMAND,
) -> Iterator[Servers]:
    """Provide servers, a schema and this process's pool while the block runs.

    Args:
        role_of_its_own: A long-running role logs at the configured level; an interactive command
            logs warnings only.
        migrated: Whether an embedded database is migrated first. A real one is migrated by its
            operator only.
        connections_max: Size of the pool.

    Yields:
        The servers.

    Raises:
        ServerUnavailable: A server is not responding.
        ConfigurationBroken: A setting is missing, invalid or unsafe.
    """
    config = settings()
    quiet = config.log_level == "info" and not role_of_its_own
    telemetry.configure("warning" if quiet else config.log_level)
    targets.policy_of(config)  # an invalid setting is told here, not by jobs that fail of it
    with embedded.use(config) as servers:
        if migrated and config.database_url is None:
            migration.migrate(servers.database_url)
        db.open_pool(
            servers.database_url,
            size=connections_max,
            prepared_statements=config.prepared_statements,
        )
        if role_of_its_own:
            plugin_kinds.tell()
        # A role sets its publisher itself.
        named = nullcontext() if role_of_its_own else outbox.published_by(actor())
        try:
            with named:
                yield servers
        finally:
            _report_uses()
            db.close_pool()


def _report_uses() -> None:
    """Store this process's model usage; a failure here must not fail the command."""
    try:
        spending.flush()
    except (ServerUnavailable, psycopg.Error) as error:
        log.warning("model_uses.not_told", error=type(error).__name__)


def actor() -> str:
    """Return the actor for the audit log: the user of the operating system."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container whose user has no name
        return f"cli:{os.getuid()}"


def tenant_named(slug: str) -> TenantId:
    """Return the id of the tenant with this slug.

    Raises:
        TenantNotFound: No tenant has the slug.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_tenant_id(conn, slug)
    if found is None:
        raise TenantNotFound(
            f"No tenant has the slug {slug!r}: create it with `ailydian tenant create {slug}`."
        )
    return found
