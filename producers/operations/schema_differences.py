"""How a database differs from what shared/schema/rights.txt says of a new one, as sentences."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from producers.operations import platform_tables
from producers.queries.operations.security_facts import SecurityFact

# Indexes of the platform's tables that another check looks for by their columns, whatever their
# names: its client makes a unique index where we have a constraint.
_BY_COLUMNS: Final = frozenset(
    f"{table.name} {kind} {table.name}_{'_'.join(columns)}_{ending}"
    for table in platform_tables.TABLES.values()
    for kind, ending, keys in (
        ("index", "idx", table.indexes),
        ("constraint", "key", [*table.uniques, *((c.name,) for c in table.columns if c.unique)]),
    )
    for columns in keys
)
_DIGEST: Final = re.compile(r"[0-9a-f]{32}")
# The object of what initdb has made: it cannot be dropped, and later versions have other things.
_SERVER: Final = "the server"
_AGAIN: Final = "run `psql -1 -f schema.sql`"


def differences(
    found: list[SecurityFact], made: list[tuple[str, ...]], known: set[str]
) -> Iterator[tuple[str, str]]:
    """Compare facts with those of a new database.

    Args:
        found: The facts of this database.
        made: Those of a new one; of two with the same name one must be true: it depends on the
            server's version.
        known: The objects of the schema.

    Yields:
        The check, and a sentence: what, where, what to do.
    """
    must = defaultdict(list)
    for line in made:
        one = SecurityFact(*line)
        must[one.check, one.name].append(one)
    for one in found:
        wanted = must.pop((one.check, one.name), [])
        ours = one.object in known or one.object.startswith("public.ailydian_")
        if not wanted and ours and not _is_free(one):
            yield one.check, f"{one.name} is unexpected: {one.fact}: {_taken_away(one)}"
        elif wanted and one.fact not in {each.fact for each in wanted}:
            near = min(wanted, key=lambda each: len(_parts(one) ^ _parts(each)))
            yield one.check, f"{_changed(one, near)}: {_mended(near, drop=True)}"
    for (check, name), missing in must.items():
        if name not in _BY_COLUMNS and missing[0].object != _SERVER:
            yield check, f"{name} is missing: {missing[0].fact}: {_mended(missing[0])}"


def _parts(one: SecurityFact) -> set[str]:
    return set(one.fact.split(" | "))


def _changed(one: SecurityFact, wanted: SecurityFact) -> str:
    if one.check != "functions" or " to " in one.name:
        return f"{one.name} is {one.fact}, not {wanted.fact}"
    if one.object == _SERVER:
        return f"the server's function {one.name} is changed: another body"
    now, before = one.fact.split(" | "), wanted.fact.split(" | ")
    new = [_DIGEST.sub("another body", part) for part in now if part not in before]
    gone = [part for part in before if part not in now and not _DIGEST.fullmatch(part)]
    told = ", ".join(new) or "less"
    return f"{one.name} is changed: {told}" + (f", not {', '.join(gone)}" if gone else "")


def _taken_away(one: SecurityFact) -> str:
    if " trigger of the constraint " in one.name:
        return f'run ALTER TABLE "{one.object}" ENABLE TRIGGER ALL'
    if one.object == _SERVER:
        return "it was replaced: restore it from a new server"
    return "revoke it" if " to " in one.name else "drop it"


def _mended(one: SecurityFact, *, drop: bool = False) -> str:
    """What makes it as it was."""
    if one.object == _SERVER:
        return "restore it from a new server"
    if one.check == "owners":
        return "run ALTER ... OWNER TO ailydian_owner"
    if one.check != "definitions":
        return _AGAIN
    kind, _, name = one.name.removeprefix(one.object).strip().rpartition(" ")
    if kind == "index":
        return f'run DROP INDEX "{name}", then {one.fact}' if drop else f"run {one.fact}"
    if kind != "constraint":
        return f"alter it back to {one.fact}"
    domain = one.object.removeprefix("type ")
    place = f'TABLE "{domain}"' if domain == one.object else f'DOMAIN "{domain}"'
    dropped = f'DROP CONSTRAINT "{name}", ' if drop else ""
    return f'run ALTER {place} {dropped}ADD CONSTRAINT "{name}" {one.fact}'


def _is_free(one: SecurityFact) -> bool:
    """Whether something that the schema does not have hurts nobody.

    Columns, constraints and indexes of the platform's tables are the platform's; what they call is
    looked at apart. An index that is not unique refuses no row.
    """
    if one.check != "definitions":
        return False
    added = one.name.removeprefix(one.object)
    if added.startswith(" index ") and " UNIQUE " not in one.fact.partition(" ON ")[0]:
        return True
    own = one.object in platform_tables.TABLES
    return own and added.startswith((".", " constraint ", " index ", " sequence "))
