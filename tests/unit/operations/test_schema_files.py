"""The files of the schema: one place for each thing, and schema.sql is made of them."""

import re
from pathlib import Path

import pytest

from shared import schema
from shared.schema import statements, versions
from tests.support import schema_copy

TOP = Path(schema.__file__).parents[2] / "schema.sql"
FUNCTION = re.compile(r"(?m)^CREATE OR REPLACE (?:FUNCTION|PROCEDURE) (?:public\.)?ailydian_(\w+)")


def test_schema_sql_is_what_the_files_make():
    assert TOP.read_text() == schema.text(), "run `make schema`"


def test_every_file_of_the_folder_has_its_place_in_the_order():
    assert sorted(versions.FOLDER.glob("[0-9]*/**/*.sql")) == sorted(schema.files())


@pytest.mark.parametrize("path", schema.functions(), ids=lambda path: path.stem)
def test_a_function_stands_in_the_file_of_its_name_and_alone(path):
    made = FUNCTION.findall(path.read_text()) or [
        # The one whose body depends on the server.
        *re.findall(r"CREATE OR REPLACE FUNCTION public\.ailydian_(new_id)", path.read_text())
    ]

    assert made == [path.stem]


def test_names_of_functions_are_unique():
    names = [path.stem for path in schema.functions()]

    assert len(names) == len(set(names))


def test_functions_are_made_in_files_of_functions_and_tools_alone():
    elsewhere = set(schema.files()) - set(schema.functions())

    assert {path.name for path in elsewhere if FUNCTION.search(path.read_text())} == {"tools.sql"}


def test_steps_are_numbered_without_a_gap_from_version_2_on():
    numbers = [int(step.name[:4]) for step in versions.steps()]

    assert numbers == list(range(2, 2 + len(numbers)))


def test_a_script_is_split_where_a_statement_ends_and_nowhere_else():
    script = """
        -- one; two
        SELECT ';' AS "a;b", 'it''s;';
        DO $$ BEGIN PERFORM 1; END $$;
        CREATE FUNCTION f() RETURNS text AS $f$ SELECT $$;$$; $f$ LANGUAGE sql
        -- the end;
    """

    assert [one.split()[-1] for one in statements.split(script)] == ["'it''s;'", "$$", "end;"]


def test_comments_between_statements_are_no_part_of_a_digest(tmp_path, monkeypatch):
    before = versions.parts()
    copied = schema_copy.put(tmp_path, monkeypatch)
    for path in copied.glob("[0-9]*/**/*.sql"):
        path.write_text(f"-- another word\n\n{path.read_text()}\n-- and one more\n")

    assert {part.name: part.digest for part in versions.parts()} == {
        part.name: part.digest for part in before
    }


def test_a_comment_in_a_body_is_part_of_a_digest(tmp_path, monkeypatch):
    before = {part.name: part.digest for part in versions.parts()}
    copied = schema_copy.put(tmp_path, monkeypatch)
    path = copied / "80_ledger/functions/job_kind.sql"
    path.write_text(path.read_text().replace("BEGIN\n", "BEGIN\n-- why\n", 1))

    after = {part.name: part.digest for part in versions.parts()}
    assert [name for name in after if after[name] != before[name]] == [
        "80_ledger/functions/job_kind"
    ]
