"""The files of the schema: one place for each thing, and schema.sql is made of them."""

import re
from pathlib import Path

import pytest

from shared import schema

TOP = Path(schema.__file__).parents[2] / "schema.sql"
FUNCTION = re.compile(r"(?m)^CREATE OR REPLACE (?:FUNCTION|PROCEDURE) (?:public\.)?ailydian_(\w+)")


def test_schema_sql_is_what_the_files_make():
    assert TOP.read_text() == schema.text(), "run `make schema`"


def test_every_file_of_the_folder_has_its_place_in_the_order():
    assert sorted(schema.FOLDER.rglob("*.sql")) == sorted(schema.files())


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
