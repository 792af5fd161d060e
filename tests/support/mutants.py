"""Every single mutant of the schema's guards, and what of the checks and tests notices it.

`make mutants` makes them all, one at a time, in transactions that are rolled back; a sample runs in
the suite. Two lines of defence are asked apart from each other:

- `ailydian verify`, which compares policies, grants, owners and functions with rights.txt;
- behaviour: rows that a policy lets through (isolation.py), what functions do with foreign ids
  (isolation_functions.py). A policy or a predicate that no behaviour needs would survive here.
"""

import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from producers.operations import migration, verification
from shared import schema
from shared.servers import embedded
from shared.settings import Settings
from tests.support import bypasses, isolation, isolation_functions

POLICIES = """
    SELECT c.relname, p.polname, pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
    JOIN pg_class c ON c.oid = p.polrelid ORDER BY 1, 2
"""
FUNCTIONS = """
    SELECT p.oid::regprocedure::text, p.prosecdef, ARRAY(
               SELECT r FROM unnest('{public,ailydian_app,ailydian_relay,ailydian_audit_reader,
                                     ailydian_platform}'::text[]) r
               WHERE NOT has_function_privilege(r, p.oid, 'EXECUTE'))
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'ailydian_')
    ORDER BY 1
"""
LOOKUPS = """
    SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'ailydian_tenant_of_')
    ORDER BY 1
"""
SEEN = re.compile(r"FOUND AND \(current_setting.*?\)\);", re.DOTALL)
ROLES = ("ailydian_app", "ailydian_relay", "ailydian_audit_reader", "ailydian_platform")
ALL_ROLES = ("ailydian_owner", *ROLES)

# A comparison of tenants in the text of a function.
PREDICATE = re.compile(
    r"""(?x) (?:\w+\.)?"tenantId"\ =\ (?:[vp]_tenant_id|current_setting\('app\.tenant_id'\)
                                       | \w+\."(?:tenantId|id)")
    | coalesce\(i\."tenantId",\ ''\)\ =\ coalesce\(p_tenant_id,\ ''\)"""
)
# Predicates that another one beside them makes superfluous: by function and number.
EQUIVALENT = {
    "forget_answers 2": "for the index: the answer's own tenant decides",
    "forget_answers_of_chunk 2": "as in forget_answers",
    "forget_answers_of_chunks 2": "as in forget_answers",
    "stop_jobs 1": "for the index: the job's id decides",
    "enter_slot 1": "for the index: the holder's id decides",
    "leave_slot 1": "as in enter_slot",
    "revive_run 2": "as in enter_slot",
}


@dataclass(frozen=True)
class Mutant:
    """A change of a guard. `behaviour` says by what it is to be noticed beside `verify`."""

    kind: str
    name: str
    statement: str
    behaviour: Callable[[psycopg.Connection], bool] | None = None


def rows_differ(table: str) -> Callable[[psycopg.Connection], bool]:
    """Whether a table's policies let through something else than they should."""

    def differ(conn: psycopg.Connection) -> bool:
        rows = isolation.seed(conn, [table])
        return any(True for _ in isolation.faults(conn, rows))

    return differ


def functions_differ(conn: psycopg.Connection) -> bool:
    """Whether a function reaches another tenant, or a tenant that goes takes another's rows."""
    with conn.transaction(force_rollback=True):
        isolation_functions.seed(conn)
        if any(True for _ in isolation_functions.faults(conn)):
            return True
    with conn.transaction(force_rollback=True):
        return any(True for _ in isolation.faults_of_goodbye(conn, isolation.seed(conn)))


def parents_differ(conn: psycopg.Connection) -> bool:
    """Whether a row can be hung onto another tenant's, or is told that there is one."""
    with conn.transaction(force_rollback=True):
        return any(True for _ in isolation.faults_of_parents(conn, isolation.seed(conn)))


def of_policies(conn: psycopg.Connection) -> Iterator[Mutant]:
    """Each policy dropped, loosened in every direction and doubled; each table left unguarded."""
    name = sql.Identifier
    tables = set()
    for table, policy, rule in conn.execute(POLICIES).fetchall():
        tables.add(table)
        kinds = {"dropped": "DROP POLICY {p} ON {t}"}
        if rule != "true":
            kinds |= {
                "loosened": "ALTER POLICY {p} ON {t} USING (true) WITH CHECK (true)",
                "read whole": "ALTER POLICY {p} ON {t} USING (true)",
                "written whole": "ALTER POLICY {p} ON {t} WITH CHECK (true)",
                "or true": f"ALTER POLICY {{p}} ON {{t}} USING ({rule} OR true)"
                f" WITH CHECK ({rule} OR true)",
            }
        for kind, statement in kinds.items():
            made = sql.SQL(statement).format(p=name(policy), t=name(table)).as_string(conn)
            # A table without a policy is as closed as one whose policy is `false`.
            alike = kind == "dropped" and rule == "false"
            behaviour = None if alike else rows_differ(table)
            yield Mutant(f"policy {kind}", f"{table} {policy}", made, behaviour)
    for table in sorted(tables):
        for kind, statement in {
            "doubled": "CREATE POLICY extra ON {t} TO PUBLIC USING (true)",
            "off": "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
            "not forced": "ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY",
        }.items():
            made = sql.SQL(statement).format(t=name(table)).as_string(conn)
            # FORCE binds the owner alone, whose policy is `true`.
            behaviour = None if kind == "not forced" else rows_differ(table)
            yield Mutant(f"policy {kind}", table, made, behaviour)


def of_grants(conn: psycopg.Connection) -> Iterator[Mutant]:
    """Each table granted to each role and to PUBLIC, each function opened, each owner changed."""
    tables = [table for (table,) in conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'S') ORDER BY 1"
    ).fetchall()]  # fmt: skip
    for table in tables:
        t = sql.Identifier(table).as_string(conn)
        for role in ROLES:
            yield Mutant("grant widened", f"{table} {role}", f"GRANT ALL ON {t} TO {role}")
        yield Mutant("grant to PUBLIC", table, f"GRANT SELECT ON {t} TO PUBLIC")
        if not table.endswith("_seq"):  # an identity's follows its table
            yield Mutant("owner changed", table, f"ALTER TABLE {t} OWNER TO CURRENT_USER")
    for (column,) in conn.execute(
        "SELECT quote_ident(a.attname) || ') ON ' || c.oid::regclass FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
        " AND c.relkind = 'r' AND a.attname IN ('tenantId', 'state') ORDER BY 1"
    ).fetchall():
        yield Mutant("column granted", column, f"GRANT UPDATE ({column} TO ailydian_audit_reader")
    for function, definer, closed_to in conn.execute(FUNCTIONS).fetchall():
        for role in closed_to:
            grant = f"GRANT EXECUTE ON FUNCTION {function} TO {role}"
            yield Mutant("function opened", f"{function} {role}", grant)
        yield Mutant("owner changed", function, f"ALTER FUNCTION {function} OWNER TO CURRENT_USER")
        security = "INVOKER" if definer else "DEFINER"
        turned = f"ALTER FUNCTION {function} SECURITY {security}"
        yield Mutant("function turned", function, turned)


def of_roles() -> Iterator[Mutant]:
    """Each role given another one or an attribute, and ways around the policies."""
    for role in ALL_ROLES:
        for other in ALL_ROLES:
            if role != other:
                yield Mutant("role granted", f"{other} to {role}", f"GRANT {other} TO {role}")
        yield Mutant(
            "role granted", f"pg_read_all_data to {role}", f"GRANT pg_read_all_data TO {role}"
        )
        for attribute in (
            "SUPERUSER",
            "BYPASSRLS",
            "LOGIN",
            "CREATEROLE",
            "CREATEDB",
            "REPLICATION",
        ):
            yield Mutant("role raised", f"{role} {attribute}", f"ALTER ROLE {role} {attribute}")
    for name, statement in {
        "a view": 'CREATE VIEW leak AS SELECT * FROM "Document"; GRANT SELECT ON leak TO PUBLIC',
        "a view of the owner": "SET ROLE ailydian_owner;"
        ' CREATE VIEW leak AS SELECT * FROM "Document"',
        "a materialized view": 'CREATE MATERIALIZED VIEW leak AS SELECT * FROM "Document";'
        " GRANT SELECT ON leak TO ailydian_app",
        "a function": "CREATE FUNCTION leak() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        """ AS 'SELECT count(*) FROM "Document"'""",
        "a rule": 'CREATE RULE leak AS ON INSERT TO "Document" DO ALSO NOTIFY leak',
        "the schema": "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "new functions": "ALTER DEFAULT PRIVILEGES FOR ROLE ailydian_owner"
        " GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
        "new tables": "ALTER DEFAULT PRIVILEGES FOR ROLE ailydian_owner"
        " GRANT SELECT ON TABLES TO ailydian_app",
        "a setting": "ALTER ROLE ailydian_app SET search_path = pg_temp",
    }.items():
        yield Mutant("way around", name, statement)


def of_functions(conn: psycopg.Connection) -> Iterator[Mutant]:
    """Each comparison of tenants taken out of each function that acts as the owner."""
    acts_as_owner = {one.split("(")[0] for one, definer, _ in conn.execute(FUNCTIONS) if definer}
    for path in schema.functions():
        text = path.read_text()
        # Those that a definer calls are its owner's alone.
        alone = f"CALL ailydian_build_rights('ailydian_{path.stem}');" in text
        if not alone and f"ailydian_{path.stem}" not in acts_as_owner:
            continue
        body = text[text.index("$$") :]
        before = text[: text.index("$$")]
        after = body[body.rindex("$$") :]
        body = body[: body.rindex("$$")]
        for number, found in enumerate(PREDICATE.finditer(body), 1):
            if f"{path.stem} {number}" in EQUIVALENT:
                continue
            changed = f"{body[: found.start()]}true{body[found.end() :]}"
            made = before + changed + after.partition(";")[0] + ";"
            yield Mutant(
                "tenant taken out",
                f"{path.stem} {number}: {found[0]}",
                made,
                functions_differ,
            )


def of_parents(conn: psycopg.Connection) -> Iterator[Mutant]:
    """The tenant taken out of each look-up of a child's parent, which tools.sql has made."""
    for name, definition in conn.execute(LOOKUPS).fetchall():
        changed, found = SEEN.subn("FOUND;", definition)
        if found:
            yield Mutant("parent of any tenant", name, changed, parents_differ)


def of_bypasses(conn: psycopg.Connection) -> Iterator[Mutant]:
    """Each way around the schema that is not one of its own guards."""
    for one in bypasses.EVERY:
        yield Mutant("bypass", one.statement, bypasses.placed(conn, one.statement))


def every(conn: psycopg.Connection) -> list[Mutant]:
    """All of them, in the same order each time."""
    return [
        *of_policies(conn),
        *of_functions(conn),
        *of_parents(conn),
        *of_grants(conn),
        *of_roles(),
        *of_bypasses(conn),
    ]


def noticed(
    conn: psycopg.Connection, check: Callable[[psycopg.Connection], bool], one: Mutant
) -> bool:
    """Whether a check tells a mutant from the schema."""
    with conn.transaction(force_rollback=True):
        conn.execute("SET LOCAL search_path = public, pg_temp")
        conn.execute(one.statement.encode())
        conn.execute("RESET ROLE")
        return check(conn)


def verified(conn: psycopg.Connection) -> bool:
    """Whether `ailydian verify` finds fault, as the owner whom it acts as."""
    conn.execute("SET LOCAL ROLE ailydian_owner")
    return any(not check.ok for check in verification.schema_checks(conn))


def survivors(conn: psycopg.Connection, mutants: list[Mutant]) -> tuple[list[str], Counter[str]]:
    """Who survives one line of defence, and how many each line noticed."""
    lived, score = [], Counter[str]()
    for one in mutants:
        score[f"{one.kind}: made"] += 1
        if noticed(conn, verified, one):
            score[f"{one.kind}: noticed by verify"] += 1
        else:
            lived.append(f"verify: {one.kind}: {one.name}")
        if one.behaviour is not None:
            if noticed(conn, one.behaviour, one):
                score[f"{one.kind}: noticed by behaviour"] += 1
            else:
                lived.append(f"behaviour: {one.kind}: {one.name}")
    return lived, score


def main(only: str = "") -> int:
    """Make them all, or those whose kind matches; print the score and who survives."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ailydian-mutants-") as home,
        embedded.use(Settings(home=Path(home)), durable=False) as servers,
    ):
        migration.migrate(servers.database_url)
        with psycopg.connect(servers.database_url, autocommit=True) as conn:
            mutants = [one for one in every(conn) if re.search(only, one.kind)]
            lived, score = survivors(conn, mutants)
    for line, count in sorted(score.items()):
        print(f"{count:6d}  {line}")
    print(f"{len(mutants)} mutants, {len(lived)} survived, {time.monotonic() - began:.0f} s")
    print("\n".join(lived))
    return bool(lived)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
