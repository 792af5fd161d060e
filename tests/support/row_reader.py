"""Follows rows through the functions of a query module, up to the fields that take them.

A row may be taken in these ways: `Made(*row)`, where names and types of fields are compared in
their order; `for a, b in rows`, where the names are; and by number where it has one column, or is
taken whole as well. Whatever else becomes of a row is broken: nobody would see two of its columns
swapped.
"""

import ast
import inspect
import typing
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from types import ModuleType, UnionType
from typing import Any

from tests.support import source_code
from tests.support.rows import (
    NAIVE,
    Cell,
    Items,
    Many,
    Result,
    Row,
    Statement,
    differences,
    either,
    fields,
    fits,
    row_of,
    shown,
    statement_of,
)

CONVERTERS = {"bool": bool, "bytes": bytes, "float": float, "int": int, "str": str}
SAME_ITEMS = {"iter", "list", "reversed", "set", "sorted", "tuple"}
EXECUTES = {"execute", "executemany"}
LOOKS = {"all", "any", "bool", "len"}


class Reader:
    """Reads one module of the shelf.

    Attributes:
        broken: What is wrong, with its place.
        composed: Functions that execute what is no constant.
        executed: Names of the statements that are executed.
        taken: How many rows were taken whole by a class.
    """

    def __init__(
        self, path: str, module: ModuleType, rows: dict[str, Row], elsewhere: Iterable[str]
    ) -> None:
        self.broken: list[str] = []
        self.composed: set[str] = set()
        self.executed: set[str] = set()
        self.taken = 0
        self._path, self._module, self._rows = path, module, rows
        self._name = source_code.short(module)
        self._elsewhere = set(elsewhere)  # statements whose rows other modules take
        self._known: dict[str, Any] = {}  # what the local names of the function hold
        self._numbered: list[ast.Subscript] = []  # columns by their numbers, of several
        self._function = ""
        self._seen: set[ast.AST] = set()

    def read(self) -> "Reader":
        """Go through every function."""
        nodes = list(ast.walk(source_code.tree(self._path)))
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                self._read(node)
        for node in nodes:
            if isinstance(node, ast.Call):
                executes = _attribute(node.func) in EXECUTES
                for it in [node] if executes else node.args:
                    if (executes or isinstance(it, ast.Starred)) and it not in self._seen:
                        self._break(it, f"{ast.unparse(it)} stands where nobody looks")
        return self

    def _read(self, node: ast.FunctionDef) -> None:
        self._known, self._numbered, self._function = {}, [], node.name
        made = vars(self._module).get(node.name)
        hints = typing.get_type_hints(made) if inspect.isfunction(made) else {}
        self._block(node.body, hints.get("return"))
        for it in self._numbered:
            self._break(it, f"{ast.unparse(it)} takes a column by its number, of several")

    def _break(self, node: ast.AST, what: str) -> None:
        self.broken.append(f"{self._path}:{node.lineno} {self._function}: {what}")

    # Statements

    def _block(self, body: Iterable[ast.AST], returned: Any) -> None:
        for node in body:
            match node:
                case ast.Assign(targets=[target]) | ast.AnnAssign(target=target, value=ast.expr()):
                    self._bind(target, self._value(node.value))
                case ast.For():
                    self._bind(node.target, self._item(node.iter))
                    self._block(node.body + node.orelse, returned)
                case ast.If():
                    self._value(node.test)
                    before = dict(self._known)
                    self._block(node.body, returned)
                    body, self._known = self._known, before
                    self._block(node.orelse, returned)
                    self._join(node, body)
                case ast.Return(value=ast.expr()):
                    self._returned(node.value, returned)
                case ast.FunctionDef() | ast.ClassDef():
                    pass  # read on its own
                case ast.expr():
                    self._value(node)
                case _:
                    self._block(ast.iter_child_nodes(node), returned)

    def _join(self, node: ast.If, other: dict[str, Any]) -> None:
        """Go on with what either branch has left."""
        for name, value in other.items():
            self._compare(node, row_of(value), row_of(self._known.get(name)))
            self._known[name] = either(value, self._known.get(name))

    def _compare(self, node: ast.AST, one: Row | None, other: Row | None) -> None:
        """Where the code chooses between statements, they yield the same."""
        if one is not None and other is not None and one.cells != other.cells:
            self._break(node, f"{one.of} yields {one}; {other.of} yields {other}")

    def _bind(self, target: ast.expr, value: Any) -> None:
        match target, value:
            case ast.Name(), _:
                self._known[target.id] = value
            case ast.Tuple() | ast.List(), Row():
                self._unpack(target, value)
            case ast.Tuple(), Items():
                for one, item in zip(target.elts, value.values, strict=False):
                    self._bind(one, item)
            case _, Row() | Many(item=Row()) | Result():
                self._break(target, f"rows of {statement_of(value)} go where nobody compares")
            case ast.Tuple() | ast.List(), _:
                for one in target.elts:
                    self._bind(one.value if isinstance(one, ast.Starred) else one, None)

    def _unpack(self, target: ast.Tuple | ast.List, row: Row) -> None:
        spare = len(row.cells) - len(target.elts)
        starred = any(isinstance(it, ast.Starred) for it in target.elts)
        if spare < (-1 if starred else 0) or (spare > 0 and not starred):
            self._break(target, f"{len(target.elts)} names for {len(row.cells)} columns: {row}")
            return
        cells = list(row.cells)
        for one in target.elts:
            if isinstance(one, ast.Starred):
                self._bind(one.value, Row(tuple(cells[: spare + 1]), row.of))
                del cells[: spare + 1]
                continue
            cell = cells.pop(0)
            self._bind(one, cell)
            name = ast.unparse(one)
            if name != "_" and name.rstrip("_") != cell.name:
                self._break(one, f"the column {cell.name} of {row.of} is called {name}")

    def _returned(self, node: ast.expr, wanted: Any) -> None:
        if isinstance(node, ast.IfExp):
            self._value(node.test)
            self._returned(node.body, wanted)
            self._returned(node.orelse, wanted)
        else:
            self._yielded(self._value(node), wanted, node)

    def _yielded(self, value: Any, wanted: Any, node: ast.AST) -> None:
        """Compare what a function returns with what it says that it returns."""
        inner, origin = typing.get_args(wanted), typing.get_origin(wanted)
        match value:
            case Row() | Result() | Many(item=Row()):
                if statement_of(value) not in self._elsewhere:
                    self._break(node, f"rows of {statement_of(value)} are returned as they come")
            case Cell() if wanted is not None and not fits(value.type, wanted):
                self._break(node, f"the column {value} is returned as {shown(wanted)}")
            case Many() | Items() if origin in (UnionType, typing.Union):
                self._yielded(value, inner[0], node)
            case Many(item=Items() as item) if origin is dict:
                self._yielded(item, tuple[inner], node)
            case Many() if inner:
                self._yielded(value.item, inner[0], node)
            case Items() if len(inner) == len(value.values):
                for item, one in zip(value.values, inner, strict=True):
                    self._yielded(item, one, node)

    # Expressions

    def _value(self, node: ast.expr) -> Any:
        """What an expression holds of rows; None where it holds nothing of them."""
        match node:
            case ast.Name():
                return self._known.get(node.id, self._constant(node.id))
            case ast.Call():
                return self._call(node)
            case ast.Subscript():
                return self._part(node, self._value(node.value))
            case ast.IfExp():
                self._value(node.test)
                return either(self._value(node.body), self._value(node.orelse))
            case ast.Tuple():
                return Items(tuple(map(self._value, node.elts)))
        return self._loop(node)

    def _loop(self, node: ast.expr) -> Many | None:
        match node:
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                self._generators(node.generators)
                return Many(self._value(node.elt))
            case ast.DictComp():
                self._generators(node.generators)
                return Many(Items((self._value(node.key), self._value(node.value))))
            case ast.Starred(value=inner) if isinstance(row := self._value(inner), Row):
                self._break(node, f"a row of {row.of} goes where nobody compares")
            case _:
                self._block(ast.iter_child_nodes(node), None)
        return None

    def _generators(self, generators: list[ast.comprehension]) -> None:
        for it in generators:
            self._bind(it.target, self._item(it.iter))
            for test in it.ifs:
                self._value(test)

    def _item(self, node: ast.expr) -> Any:
        """What one turn of a loop over this yields."""
        match self._value(node):
            case Result() as result:
                return result.row
            case Many() as many:
                return many.item
            case Items() as items if all(isinstance(it, Row) for it in items.values):
                return items.values[0] if items.values else None
        return None

    def _constant(self, name: str) -> Statement | None:
        texts = {
            text: f"{self._name}.{constant}"
            for constant, text in vars(self._module).items()
            if f"{self._name}.{constant}" in self._rows
        }
        value = vars(self._module).get(name)
        if isinstance(value, str) and value in texts:
            return Statement((f"{self._name}.{name}",))
        if isinstance(value, dict) and value and texts.keys() >= set(map(str, value.values())):
            return Statement(tuple(texts[one] for one in value.values()))  # the code chooses one
        return None

    def _part(self, node: ast.Subscript, value: Any) -> Any:
        match value, node.slice:
            case Statement(), _:
                return value
            case Row(cells=cells), ast.Slice(lower=lower, upper=upper):
                ends = [None if it is None else ast.literal_eval(it) for it in (lower, upper)]
                return Row(cells[slice(*ends)], value.of)
            case Row(cells=cells), number:
                if len(cells) > 1:
                    self._numbered.append(node)
                return next(iter(cells[ast.literal_eval(number) :]), None)
            case Many(), ast.Slice():
                return value
            case Many(), _:
                return value.item
        self._block(ast.iter_child_nodes(node.slice), None)
        return None

    # Calls

    def _call(self, node: ast.Call) -> Any:
        name = _attribute(node.func)
        if name in EXECUTES:
            return self._execute(node, node.args[0])
        if name == "call" and ast.unparse(node.func) == "db.call":
            return self._text(node)
        owner = self._value(node.func.value) if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, Result) and name in {"fetchone", "fetchall"}:
            return owner.row if name == "fetchone" else Many(owner.row)
        if isinstance(owner, Cell):
            return self._method(node, owner)
        made = self._made_by(node.func)
        if made is not None and (wanted := fields(made)) is not None:
            return self._made(node, made, wanted)
        return self._passed(node, made)

    def _method(self, node: ast.Call, cell: Cell) -> Cell:
        self._block(node.args, None)
        if not ast.unparse(node).endswith(".replace(tzinfo=UTC)"):
            return replace(cell, type=None)
        if cell.type != NAIVE:
            self._break(node, f"the column {cell} is given a time zone")
        return replace(cell, type=datetime)

    def _execute(self, node: ast.Call, statement: ast.expr) -> Result | None:
        self._seen.add(node)
        self._block([*node.args[1:], *(it.value for it in node.keywords)], None)
        found = self._value(statement)
        if not isinstance(found, Statement):
            self.composed.add(f"{self._name}.{self._function}")
            return None
        self.executed.update(found.names)
        first, *others = (self._rows[name] for name in found.names)
        for other in others:
            self._compare(node, first, other)
        return Result(first)

    def _text(self, node: ast.Call) -> None:
        """`db.call` answers with the only value, as text."""
        result = self._execute(node, node.args[1])
        if result is not None and len(result.row.cells) != 1:
            self._break(node, f"db.call takes one column, {result.row.of} yields {result.row}")

    def _made_by(self, function: ast.expr) -> Any:
        names = ast.unparse(function).split(".")
        made = vars(self._module).get(names[0], CONVERTERS.get(names[0]))
        for name in names[1:]:
            made = getattr(made, name, None)
        return made

    def _made(self, node: ast.Call, made: Any, wanted: dict[str, Any]) -> None:
        """Compare what a class is given with its fields."""
        cells: list[Cell | None] = []
        whole = False
        for arg in node.args:
            if not isinstance(arg, ast.Starred):
                cells.append(self._field(arg))
                continue
            self._seen.add(arg)
            row = self._value(arg.value)
            if not isinstance(row, Row):
                self._break(arg, f"{ast.unparse(arg)} is of no statement that can be read here")
                return
            whole = True
            self.taken += 1
            cells += row.cells
            self._forgive(ast.unparse(arg.value), row)
        named = {it.arg: self._field(it.value) for it in node.keywords if it.arg is not None}
        last = {name: kind for name, kind in wanted.items() if name in named}
        first = {name: kind for name, kind in wanted.items() if name not in named}
        if not whole:
            first = dict(list(first.items())[: len(cells)])
        found = [*differences(cells, first), *differences([named[name] for name in last], last)]
        for it in found:
            self._break(node, f"{made.__name__}: {it}")

    def _field(self, node: ast.expr) -> Cell | None:
        value = self._value(node)
        if isinstance(value, Cell):
            return value
        if statement_of(value) is not None:
            self._break(node, f"rows of {statement_of(value)} go where nobody compares")
        return None

    def _forgive(self, name: str, row: Row) -> None:
        """Where a row is also taken whole, its numbers need no names of their own."""
        if len(row.cells) == len(self._rows[row.of].cells):
            self._numbered = [it for it in self._numbered if ast.unparse(it.value) != name]

    def _passed(self, node: ast.Call, made: Any) -> Any:
        """What becomes of values that go through a function."""
        name = ast.unparse(node.func)
        values = [self._value(it) for it in node.args]
        self._seen.update(it for it in node.args if isinstance(it, ast.Starred))
        for it in node.keywords:
            self._value(it.value)
        value = values[0] if values else None
        if isinstance(value, Cell) and isinstance(made, typing.NewType):
            if not fits(value.type, made):
                self._break(node, f"the column {value} becomes a {made.__name__}")
            return replace(value, type=made.__supertype__)
        if isinstance(value, Cell) and name in CONVERTERS:
            return replace(value, type=CONVERTERS[name])
        if isinstance(value, Cell) and name in {"tuple", "set"}:
            inner = typing.get_args(value.type)
            return replace(value, type=tuple[inner[0], ...] if inner else value.type)
        if isinstance(value, Many | Result) and name in SAME_ITEMS:
            return value if isinstance(value, Many) else Many(value.row)
        for one in values:
            if name not in LOOKS and statement_of(one) is not None:
                self._break(
                    node, f"rows of {statement_of(one)} go into {name}, where nobody compares"
                )
        return None


def _attribute(function: ast.expr) -> str | None:
    return function.attr if isinstance(function, ast.Attribute) else None
