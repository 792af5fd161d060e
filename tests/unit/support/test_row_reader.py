"""What the test of the shelf's rows finds, on a page of its own."""

import importlib.util
from datetime import datetime

import pytest

from tests.support.row_reader import Reader
from tests.support.rows import JSON, NAIVE, Cell, Row, snake

PAGE = """
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

SELECT = "SELECT of a page"
COUNT = "SELECT a number"
CHOICE = {{"one": SELECT, "other": COUNT}}

@dataclass
class Person:
    id: str
    first_name: str
    age: int | None
    born_at: datetime
    more: dict[str, Any]

class Name(NamedTuple):
    id: str
    first_name: str

{function}
"""
ID, NAME, AGE = Cell("id", str), Cell("first_name", str), Cell("age", int)
BORN, MORE = Cell("born_at", datetime), Cell("more", JSON)
PERSON = (ID, NAME, AGE, BORN, MORE)


SHORT = {
    "FIRST": "conn.execute(SELECT).fetchone()",
    "ROWS": "conn.execute(SELECT)",
    "COUNTED": "conn.execute(COUNT)",
}


def read(tmp_path, function, cells):
    path = tmp_path / "page.py"
    for name, text in SHORT.items():
        function = function.replace(name, text)
    path.write_text(PAGE.format(function=function))
    spec = importlib.util.spec_from_file_location("page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = {
        "page.SELECT": Row(cells, "page.SELECT"),
        "page.COUNT": Row((Cell("count", int),), "page.COUNT"),
    }
    return Reader(str(path), module, rows, []).read()


WHOLE = """
def select(conn) -> list[Person]:
    return [Person(*row) for row in ROWS]
"""


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ((NAME, ID, AGE, BORN, MORE), "the column first_name goes into the field id"),
        ((*PERSON, Cell("size", int)), "no field takes size (int)"),
        (PERSON[:-1], "no column fills more"),
        (
            (ID, Cell("name", str), AGE, BORN, MORE),
            "the column name goes into the field first_name",
        ),
        ((ID, NAME, Cell("age", str), BORN, MORE), "the column age (str) goes into a field of"),
        ((ID, NAME, AGE, Cell("born_at", NAIVE), MORE), "a timestamp without zone) goes into"),
    ],
)
def test_a_row_that_differs_from_its_class_is_found(tmp_path, cells, complaint):
    assert read(tmp_path, WHOLE, PERSON).broken == []
    assert read(tmp_path, WHOLE, PERSON).taken == 1

    assert complaint in read(tmp_path, WHOLE, cells).broken[0]


@pytest.mark.parametrize(
    "body",
    [
        "-> tuple[str, str]:\n id, first_name = FIRST\n return id, first_name",
        "-> dict[str, str]:\n return {id_: first_name for id_, first_name in ROWS}",
        "-> Name | None:\n row = FIRST\n return Name(*row) if row else None",
        "-> dict[str, Name]:\n return {row[0]: Name(*row) for row in ROWS.fetchall()}",
        "-> Name:\n id, *rest = FIRST\n return Name(id, *rest)",
        "-> int:\n row = COUNTED.fetchone()\n return row[0]",
        "-> int:\n ROWS\n return COUNTED.rowcount",
    ],
)
def test_rows_taken_by_their_names_are_well(tmp_path, body):
    reader = read(tmp_path, f"def select(conn) {body}\n", (ID, NAME))

    assert reader.broken == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("-> Any:\n return ROWS.fetchall()", "are returned as they come"),
        ("-> Any:\n return dict(ROWS.fetchall())", "go into dict"),
        ("-> Any:\n return [(*row,) for row in ROWS]", "where nobody compares"),
        ("-> Any:\n row = FIRST\n return row[1]", "by its number"),
        ("-> Any:\n first_name, id_ = FIRST", "is called first_name"),
        ("-> Any:\n (id_,) = FIRST", "1 names for 2 columns"),
        ("-> str:\n row = COUNTED.fetchone()\n return row[0]", "is returned as str"),
        ("-> Any:\n return conn.execute(CHOICE[conn.kind]).rowcount", "yields"),
        (
            "-> Any:\n if conn:\n  rows = ROWS\n else:\n  rows = COUNTED",
            "yields",
        ),
        ("-> Any:\n return Name(*conn.other())", "is of no statement"),
        ("-> Any:\n with conn:\n  helper(ROWS)", "go into helper"),
        (
            "-> Any:\n return [Name(id_.replace(tzinfo=UTC), first_name)"
            " for id_, first_name in ROWS]",
            "is given a time zone",
        ),
    ],
)
def test_rows_that_nobody_can_compare_are_found(tmp_path, body, complaint):
    reader = read(tmp_path, f"def select(conn) {body}\n", (ID, NAME))

    assert complaint in "\n".join(reader.broken)


def test_what_is_executed_is_known(tmp_path):
    both = "def select(conn) -> None:\n COUNTED\n conn.execute('SELECT ' + 'more')\n"

    reader = read(tmp_path, both, (ID, NAME))

    assert reader.executed == {"page.COUNT"}
    assert reader.composed == {"page.select"}


def test_a_column_is_called_as_its_field():
    assert [snake(it) for it in ("id", "contentSha256", "tookS", "costPer1kIn")] == [
        "id",
        "content_sha256",
        "took_s",
        "cost_per1k_in",
    ]
