"""The house style of the schema's functions, where a machine can check it."""

import re

import psycopg
import pytest
from psycopg import errors

from shared import schema
from tests.support import routines

BROKEN = """
CREATE OR REPLACE FUNCTION ailydian_broken(step_id TEXT, p_rest INTEGER, OUT "found" TEXT)
LANGUAGE plpgsql AS $$
DECLARE
    v_row RECORD;
    v_node RECORD;
    v_set TEXT := 'a; v_node';  -- v_node is only spoken of
    state TEXT;
BEGIN
    SELECT s."id" INTO v_row FROM public."WorkflowStep" s WHERE s."id" = step_id;
    SELECT r."id" INTO v_row FROM public."WorkflowRun" r WHERE r."id" = v_row."id";
    v_set := 'b';
    FOR i IN 1..3 LOOP
        DECLARE
            v_row TEXT;
        BEGIN
            state := v_row || i;
            "found" := state;
        END;
    END LOOP;
END $$;
"""


def test_functions_are_short_and_their_names_and_variables_are_right():
    found = routines.problems()

    assert not found, "\n  ".join(["one duty a function; shared/schema/README.md", *found])


def test_no_exception_of_a_parameter_is_left_over():
    taken = {
        (routine.name, name)
        for path in schema.files()
        for routine in routines.read(path.read_text(), path.name)
        for name in routine.parameters
    }

    assert taken >= routines.UNUSED_PARAMETERS.keys()


def test_every_function_of_the_schema_is_read():
    read = [
        routine.name
        for path in schema.functions()
        for routine in routines.read(path.read_text(), path.name)
    ]
    made = [path.stem for path in schema.functions() if path.stem != "new_id"]

    assert read.count("DO") == 1  # new_id, whose body depends on the server
    assert [name.removeprefix("ailydian_") for name in read if name != "DO"] == made


def test_what_is_wrong_with_a_function_is_found():
    (routine,) = routines.read(BROKEN, "broken.sql")

    assert sorted(routine.problems()) == [
        "i must be named v_i",
        "p_rest is never used",
        "state must be named v_state",
        "step_id must be named p_step_id",
        "v_node is declared and never used",
        "v_row holds first one row, then another: give each a name",
        "v_row is declared twice: one shadows the other",
        "v_set is set and never read",
    ]


def test_a_long_function_is_found():
    filler = "    PERFORM 1;\n" * 57
    text = (
        f"CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$\nBEGIN\n{filler}END $$"
    )

    (fits,) = routines.read(text, "f.sql")
    (long,) = routines.read(text.replace("BEGIN\n", "BEGIN\n\n"), "f.sql")

    assert list(fits.problems()) == []
    assert list(long.problems()) == ["has 61 lines, at most 60"]


def test_postgres_finds_nothing_wrong_with_the_functions(database_url: str):
    with psycopg.connect(database_url) as conn:
        conn.execute("SET plpgsql.extra_errors = 'all'")
        # Its last block has every body checked, with the setting above.
        conn.execute(schema.text())
        conn.rollback()


def test_postgres_refuses_a_shadowed_variable(database_url: str):
    with psycopg.connect(database_url) as conn:
        conn.execute("SET plpgsql.extra_errors = 'all'")
        with pytest.raises(errors.DuplicateAlias, match=re.escape('variable "v_row" shadows')):
            conn.execute(BROKEN)
