"""Every statement of the `queries` folders, prepared and described by a real server."""

import psycopg

from producers.queries.ledger import flights, retentions
from producers.queries.operations import migrations, schema_facts
from shared.ledger.outbox import Lease
from shared.queries.ledger import dispatches, outbox
from tests.support import source_code
from tests.support.row_reader import Reader
from tests.support.rows import Server, differences, fields
from tests.support.source_code import assert_none

# Statements that cannot be prepared against schema.sql, as module.NAME, and why.
NOT_PREPARED: dict[str, str] = {}
# Functions of the shelf that put their statement together, and why.
COMPOSED = {
    migrations.drop_function: "DROP FUNCTION takes no parameter",
    schema_facts.count_without_tenant: "one SELECT a table, of the tables that it is given",
    schema_facts.delete_row: "a probe of any table",
    schema_facts.insert_row: "a probe of any table",
    schema_facts.select_row: "a probe of any table",
    schema_facts.update_row: "a probe of any table",
}
# Statements whose rows a class elsewhere takes, and those of its fields that no column fills.
TAKEN_ELSEWHERE = {outbox.CLAIM: (Lease, {"receipted"})}
# Statements that go with BEGIN, `db.transaction(first=...)`: nobody reads what they answer.
FIRST = {
    dispatches.TAKE_TURNS,
    dispatches.WAIT_BRIEFLY,
    flights.READ_WHOLE,
    retentions.TAKE_TURNS,
}


def test_every_statement_prepares_against_the_schema(database_url: str):
    broken = []
    statements = dict(source_code.statements())
    with psycopg.connect(database_url, autocommit=True) as conn:
        server = Server(conn)
        for name, statement in statements.items():
            error = server.prepare(statement)
            if error and name not in NOT_PREPARED:
                broken.append(f"{name}: {error}")

    assert statements, "no statement found: the test looks in the wrong place"
    assert len(statements) == len(list(source_code.statements())), "two modules share name and NAME"
    assert statements.keys() >= NOT_PREPARED.keys(), "an exception of NOT_PREPARED is gone"
    assert_none(broken, "A type that cannot be found needs a cast: %(ids)s::text[].")


def test_every_row_goes_into_fields_of_its_names_and_types(database_url: str):
    statements = {name: it for name, it in source_code.statements() if name not in NOT_PREPARED}
    with psycopg.connect(database_url, autocommit=True) as conn:
        server = Server(conn)
        rows = {name: server.described(name, it) for name, it in statements.items()}

    elsewhere = {name: it for name, it in statements.items() if it in TAKEN_ELSEWHERE}
    readers = [Reader(path, it, rows, elsewhere).read() for path, it in source_code.shelf()]
    broken = [line for reader in readers for line in reader.broken]
    for name, statement in elsewhere.items():
        made, without = TAKEN_ELSEWHERE[statement]
        wanted = {field: kind for field, kind in fields(made).items() if field not in without}
        broken += [f"{name}: {it}" for it in differences(rows[name].cells, wanted)]

    unread = rows.keys() - {name for reader in readers for name in reader.executed}
    broken += [
        f"no function beside {name} executes it" for name in unread if statements[name] not in FIRST
    ]
    composed = {name for reader in readers for name in reader.composed}
    excused = {f"{it.__module__.rpartition('.')[2]}.{it.__name__}" for it in COMPOSED}
    broken += [f"{name} executes what is no constant" for name in composed - excused]
    assert composed >= excused, "an exception of COMPOSED is not needed"
    assert {statements[name] for name in unread} >= FIRST, "an exception of FIRST is not needed"
    assert sum(reader.taken for reader in readers) > 100, "the test no longer finds the rows"
    assert_none(sorted(broken), 'Give a column the name of its field: count(*) AS "chunks".')


def test_placeholders_become_numbers_and_keep_their_casts():
    named = "SELECT %(b)s::int, %(a)b::text[], %(b)t, '100%%'"
    positional = "VALUES (%s, %b::text)"

    assert source_code.numbered(named) == "SELECT $1::int, $2::text[], $1, '100%'"
    assert source_code.numbered(positional) == "VALUES ($1, $2::text)"
