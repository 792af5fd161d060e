"""What a worker process makes sure of before it takes a job: the schema is there, and is bound."""

from shared import db, schema
from shared.db import Role
from workers.queries.operations import roles


def check() -> None:
    """Check the database that this process is about to serve.

    A database of a newer version is served: it has what the version before needs.

    Raises:
        ConfigurationBroken: It is not migrated, not wholly, or would not keep tenants apart.
        ServerUnavailable: Postgres is in trouble.
    """
    with db.transaction(None, role=Role.APP) as conn:
        roles.refuse_if_schema_lacks(conn, *_needed())
        roles.refuse_if_policies_are_bypassed(conn)


def _needed() -> tuple[list[str], list[str]]:
    """The tables of this version, and the functions that its processes call."""
    rights = schema.rights()
    tables = {thing for kind, thing, name, _ in rights if kind == "policies" and name == thing}
    functions = {
        thing.removeprefix("public.").partition("(")[0]
        for kind, thing, name, _ in rights
        if kind == "functions" and name.endswith((" to ailydian_app", " to ailydian_relay"))
    }
    return sorted(tables), sorted(functions)
