"""What statements return: names of their columns as fields, and the Python types, by the server."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from pgvector import Vector
from psycopg.pq import ExecStatus

from tests.support import source_code

# What psycopg makes of a type. A timestamp without zone must be given one before it is a datetime.
JSON, NAIVE = "JSON", "a timestamp without zone"
PYTHON: dict[str, Any] = {
    "bool": bool,
    "bytea": bytes,
    "date": date,
    "float4": float,
    "float8": float,
    "int2": int,
    "int4": int,
    "int8": int,
    "interval": timedelta,
    "json": JSON,
    "jsonb": JSON,
    "name": str,
    "numeric": Decimal,
    "text": str,
    "time": time,
    "timestamp": NAIVE,
    "timestamptz": datetime,
    "varchar": str,
    "vector": Vector,
    "void": str,
}
JSON_TAKERS = (Any, object, dict, list, tuple, Sequence, Mapping)


@dataclass(frozen=True)
class Cell:
    """A value out of a row: its column as a field is named, and the Python type that it has."""

    name: str
    type: Any

    def __str__(self) -> str:
        return f"{self.name} ({shown(self.type)})"


@dataclass(frozen=True)
class Row:
    """One row of a statement, or a slice of one."""

    cells: tuple[Cell, ...]
    of: str

    def __str__(self) -> str:
        return ", ".join(map(str, self.cells))


@dataclass(frozen=True)
class Statement:
    """A constant of the shelf; several where the code chooses one."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What `execute` gives back."""

    row: Row


@dataclass(frozen=True)
class Many:
    """What yields `item`s."""

    item: Any


@dataclass(frozen=True)
class Items:
    """A tuple, or key and value of a dict, that the code puts together."""

    values: tuple[Any, ...]


def either(one: Any, other: Any) -> Any:
    """What a value is that comes from one of two places."""
    if isinstance(one, Statement) and isinstance(other, Statement):
        return Statement(one.names + other.names)
    return other if one is None else one


def row_of(value: Any) -> Row | None:
    """The row that a value is or holds."""
    match value:
        case Row():
            return value
        case Result(row=row) | Many(item=Row() as row):
            return row
    return None


def statement_of(value: Any) -> str | None:
    """The statement of these rows."""
    row = row_of(value)
    return None if row is None else row.of


class Server:
    """What a database says of statements."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn
        found = conn.execute("SELECT oid, typname, typtype, typelem FROM pg_type").fetchall()
        self._types = {oid: (name, kind, element) for oid, name, kind, element in found}

    def prepare(self, statement: str) -> str:
        """Prepare a statement, and return what is wrong with it."""
        result = self._conn.pgconn.prepare(b"", source_code.numbered(statement).encode())
        ready = result.status == ExecStatus.COMMAND_OK
        return "" if ready else result.error_message.decode().strip()

    def described(self, name: str, statement: str) -> Row:
        """The columns that a statement returns."""
        assert self.prepare(statement) == ""
        result = self._conn.pgconn.describe_prepared(b"")
        cells = [
            Cell(snake(result.fname(at).decode()), self._python(result.ftype(at)))
            for at in range(result.nfields)
        ]
        return Row(tuple(cells), name)

    def _python(self, oid: int) -> Any:
        name, kind, element = self._types[oid]
        if name.startswith("_"):
            return list[self._python(element)]
        return (
            str if kind == "e" else PYTHON.get(name, f"a {name}, which tests/support/rows.py lacks")
        )


def snake(name: str) -> str:
    """The name of a column as that of a field: contentSha256 -> content_sha256."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def fits(found: Any, wanted: Any) -> bool:
    """Whether a value of this type may stand where the annotation says so."""
    wanted = getattr(wanted, "__value__", wanted)
    while isinstance(wanted, typing.NewType):
        wanted = wanted.__supertype__
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if found is None:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(found, one) for one in inner if one is not type(None))
    if found == JSON:
        return (origin or wanted) in JSON_TAKERS
    if origin is typing.Literal:
        return found is str and all(isinstance(one, str) for one in inner)
    if typing.get_origin(found) in (list, tuple):
        ordered = origin in (typing.get_origin(found), Sequence)
        return ordered and fits(typing.get_args(found)[0], inner[0])
    return found is (origin or wanted)


def fields(made: Any) -> dict[str, Any] | None:
    """Name -> annotation of what a class or function takes; None where it takes anything."""
    if dataclasses.is_dataclass(made):
        hints = typing.get_type_hints(made)
        return {field.name: hints[field.name] for field in dataclasses.fields(made)}
    if inspect.isclass(made) and hasattr(made, "_fields"):
        hints = typing.get_type_hints(made)
        return {name: hints[name] for name in made._fields}
    return None


def shown(kind: Any) -> str:
    """A type or an annotation in words."""
    return re.sub(r"\b(\w+\.)+", "", kind.__name__ if inspect.isclass(kind) else str(kind))


def differences(cells: Sequence[Cell | None], wanted: dict[str, Any]) -> Iterator[str]:
    """Where values and fields differ, place by place; None stands for a value of the code's own."""
    for cell, (name, annotation) in zip(cells, wanted.items(), strict=False):
        if cell is not None and cell.name != name:
            yield f"the column {cell.name} goes into the field {name}"
        elif cell is not None and not fits(cell.type, annotation):
            yield f"the column {cell} goes into a field of {shown(annotation)}"
    if len(cells) > len(wanted):
        yield f"no field takes {', '.join(str(it) for it in cells[len(wanted) :])}"
    if len(cells) < len(wanted):
        yield f"no column fills {', '.join(list(wanted)[len(cells) :])}"
