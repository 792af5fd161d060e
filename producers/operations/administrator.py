"""What an administrator has to do before a user who is none can migrate a database."""

from typing import Final

from producers.queries.operations import migrations
from producers.queries.operations.migrations import Prerequisites
from shared.db import Connection, Role
from shared.errors import AdministratorNeeded

# The platform's own user acts as the last one; ours as the others.
PLATFORM: Final = "ailydian_platform"
OURS: Final = tuple(role.value for role in (Role.OWNER, Role.APP, Role.RELAY, Role.AUDIT_READER))
ROLES: Final = (*OURS, PLATFORM)


def refuse_if_needed(conn: Connection, error: Exception) -> None:
    """Explain a migration that was not permitted.

    Raises:
        AdministratorNeeded: Something is missing that this user may not make; the message has the
            statements for an administrator.
    """
    found = migrations.select_prerequisites(conn, ROLES, OURS)
    todo = statements(found)
    if todo:
        lines = "\n".join(todo)
        raise AdministratorNeeded(
            f"The user {found.user} may not make what the database {found.database} still lacks. "
            "An administrator runs this once in that database, then `ailydian migrate` works:\n\n"
            f"{lines}"
        ) from error


def statements(found: Prerequisites) -> list[str]:
    """What is missing, as SQL for an administrator."""
    todo = [] if found.extension else ["CREATE EXTENSION vector;"]
    todo += [f"CREATE ROLE {role} NOLOGIN;" for role in ROLES if role in found.missing]
    if found.ungranted:
        # It acts as them, one at a time, and has none of their rights by itself.
        roles = ", ".join(role for role in OURS if role in found.ungranted)
        todo.append(f"GRANT {roles} TO {found.user} WITH INHERIT FALSE, SET TRUE;")
    if not found.creates:
        todo.append(f"GRANT USAGE, CREATE ON SCHEMA public TO {Role.OWNER.value};")
    return todo
