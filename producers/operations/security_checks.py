"""Who may do what, for `ailydian verify`: rights, functions, constraints, and ways around them.

What is of the schema must be exactly what shared/schema/rights.txt says. Of the platform's tables
that holds for what the schema has there: further columns, constraints and indexes are its own. A
table of your own needs row level security where one of our roles may use it, policies that are the
tenant's where it has a "tenantId", and no PUBLIC grant.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from producers.operations import schema_differences
from producers.queries.operations import (
    definition_facts,
    exposed_objects,
    exposed_rights,
    security_facts,
)
from producers.queries.operations.exposed_objects import ExposedObject
from producers.queries.operations.exposed_rights import ExposedRight
from producers.queries.operations.security_facts import SecurityFact
from shared import schema
from shared.db import Connection

Faults = Iterator[str]

NAMES: Final = (
    "memberships",
    "policies",
    "grants",
    "owners",
    "triggers",
    "functions",
    "definitions",
    "settings",
    "replication",
)
_PLATFORM: Final = "ailydian_platform"

_EXPOSED: Final[tuple[Callable[[Connection], Sequence[ExposedObject | ExposedRight]], ...]] = (
    exposed_rights.select_system_rights,
    exposed_rights.select_database_rights,
    exposed_rights.select_login_rights,
    exposed_objects.select_functions,
    exposed_objects.select_calls,
    exposed_objects.select_replication,
    exposed_objects.select_settings,
)

# Who must not see more than policies show; the platform sees all rows of its tables.
_BOUND: Final = frozenset({"PUBLIC", "ailydian_app", "ailydian_relay", "ailydian_audit_reader"})

_TENANT: Final = "current_setting('app.tenant_id'::text"
# Policies of a table of your own; each as Postgres prints it, for what is seen or written.
_OWN_RULES: Final = frozenset(
    {
        "-",
        "false",
        f"""("tenantId" = {_TENANT}))""",
        f"""("tenantId" = {_TENANT}, true))""",
        f"""("tenantId" = NULLIF({_TENANT}, true), ''::text))""",
        f"""("tenantId" = ( SELECT {_TENANT}) AS current_setting))""",
        f"""("tenantId" = ( SELECT {_TENANT}, true) AS current_setting))""",
        f"""("tenantId" = ( SELECT NULLIF({_TENANT}, true), ''::text) AS "nullif"))""",
    }
)


def facts(conn: Connection) -> list[SecurityFact]:
    """All that rights.txt has of a new database; names are qualified until the transaction ends."""
    security_facts.qualify_names(conn)
    definitions = definition_facts.select_definitions(conn)
    return [
        *(SecurityFact(one.check, one.object, one.name, one.fact) for one in definitions),
        *security_facts.select_facts(conn),
    ]


def look(conn: Connection) -> dict[str, list[str]]:
    """What is wrong, by the name of the check; the role and the settings of `conn` are changed.

    Returns:
        `memberships`: what the five roles and their logins are besides, and who has more than one
        user should have; `policies`, `grants`, `owners`, `triggers`, `functions`, `definitions`:
        what differs from rights.txt, and what of others gets around the policies; `settings` and
        `replication`: what the server is told besides.
    """
    security_facts.forget_tenant(conn)
    found = facts(conn)
    made = schema.rights()
    known = {"", *(line[1] for line in made)}
    wrong: dict[str, list[str]] = {name: [] for name in NAMES}
    wrong["memberships"] += _memberships(conn)
    for check, fault in schema_differences.differences(found, made, known):
        wrong[check].append(fault)
    own = [one for one in found if one.object not in known]
    wrong["policies"] += _own_policies(own, security_facts.select_tenant_tables(conn))
    wrong["grants"] += [
        f"{one.name}: {one.fact}"
        for one in own
        if one.check == "grants" and one.name.endswith(" to PUBLIC")
    ]
    wrong["functions"] += [
        f"the {one.kind} {one.name} {one.why}: drop it"
        for one in security_facts.select_loose_objects(conn)
    ]
    for select in _EXPOSED:
        for way in select(conn):
            wrong[way.check].append(f"{way.what}: {way.remedy}")
    return wrong


def _memberships(conn: Connection) -> Faults:
    found = {role.name: role for role in security_facts.select_role_rights(conn)}
    for role in found.values():
        for attribute in role.attributes:
            yield f"{role.name} {attribute}: ALTER ROLE {role.name} back"
        for other in role.acts_as:
            yield f"{role.name} may act as {other}: REVOKE {other} FROM {role.name}"
        for setting in role.settings:
            yield f"{role.name} has the setting {setting}: RESET ALL settings of that role"
    user = security_facts.select_user(conn)
    platform = set(found[_PLATFORM].members) if _PLATFORM in found else set()
    for role in found.values():
        for member in sorted(platform & set(role.members) - {user}):
            if role.name != _PLATFORM:
                yield (
                    f"{member}, a user of {_PLATFORM}, may act as {role.name} as well: "
                    f"REVOKE {role.name} FROM {member}"
                )


def _own_policies(own: list[SecurityFact], with_tenant: set[str]) -> Faults:
    """Row level security of tables that are not of the schema, and within reach of our roles."""
    policies = [one for one in own if one.check == "policies"]
    guarded = {one.object for one in policies if one.name != one.object}
    reached = {
        one.object
        for one in own
        if one.check == "grants" and one.name.rpartition(" to ")[2] in _BOUND
    }
    for one in policies:
        if one.name != one.object:
            if one.object in with_tenant and not _is_tenants(one.fact):
                yield f"{one.name} is not the tenant's: {one.fact}"
        elif one.object in reached and (one.fact != "enabled forced" or one.object not in guarded):
            yield f"{one.object} has no enforced row level security, and our roles may use it"


def _is_tenants(policy: str) -> bool:
    """Whether a policy of a table of your own shows no more than a tenant's rows to its users."""
    kind, _, roles, sees, writes = policy.split(" | ", 4)
    if kind == "restrictive" or not {"ailydian_app", "PUBLIC"} & set(roles.split(", ")):
        return True
    return {sees.removeprefix("sees "), writes.removeprefix("writes ")} <= _OWN_RULES
