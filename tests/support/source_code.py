"""How the tests of the house read the code: files, imports, statements, actors, functions."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]

# How a statement begins. Prose rarely shouts its first word and goes on like this.
STATEMENT = re.compile(
    r"""\s*(--.*?\n\s*)*(
        SELECT\s | VALUES\s*\( | INSERT\s+INTO\s | UPDATE\s+\S+\s+(AS\s+)?(\w+\s+)?SET\s
        | DELETE\s+FROM\s | MERGE\s+INTO\s | WITH\s+(RECURSIVE\s+)?\S+\s+(\(.*?\)\s+)?AS\s
        | (CREATE|ALTER|DROP)\s+(TABLE|UNIQUE|INDEX|ROLE|DATABASE|TYPE|FUNCTION|TRIGGER|POLICY
            |EXTENSION|SCHEMA|VIEW|TEMP|OR\s+REPLACE)
        | (BEGIN|COMMIT|ROLLBACK)(;.*)?$ | SET\s+(LOCAL|ROLE|SESSION)\s | RESET\s
        | (LISTEN|UNLISTEN|NOTIFY|GRANT|REVOKE|TRUNCATE|VACUUM|ANALYZE|EXPLAIN|COPY|LOCK|CALL)\s
        | (?i: select\s.+\sfrom\s+"? [a-z"] | insert\s+into\s+"\w | delete\s+from\s+"\w
            | update\s+"\w+"\s+set\s)
    )""",
    re.VERBOSE | re.DOTALL,
)


@cache
def files(*folders: str) -> list[str]:
    """The Python files below the folders, as paths from the root."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    )


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


@cache
def nodes(path: str) -> list[ast.AST]:
    """Every node of a file: most rules look at all of them."""
    return list(ast.walk(tree(path)))


def imports(path: str) -> Iterator[tuple[int, str]]:
    """Line and module of every import; `from shared import db` is an import of shared.db."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if _is_module(inner) else node.module


@cache
def _is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists() or name == "unittest.mock"


def sql_lines(path: str) -> list[int]:
    """Where a string that is a statement begins; docstrings are prose."""
    found_nodes = nodes(path)
    prose = {id(node.value) for node in found_nodes if isinstance(node, ast.Expr)}
    found = {
        node.lineno
        for node in found_nodes
        if id(node) not in prose and STATEMENT.match(_text(node))
    }
    return sorted(found)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "x" for part in node.values)
    value = node.value if isinstance(node, ast.Constant) else ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def shelf() -> Iterator[tuple[str, ModuleType]]:
    """Path and module of every page of the shelf."""
    for path in files("shared", "producers", "workers"):
        if "/queries/" in path and not path.endswith("/__init__.py"):
            yield path, importlib.import_module(path.removesuffix(".py").replace("/", "."))


def short(module: ModuleType) -> str:
    """The last part of a module's name."""
    return module.__name__.rpartition(".")[2]


def statements() -> Iterator[tuple[str, str]]:
    """Every constant of the shelf, as module.NAME; a fragment's name begins with _."""
    for _, module in shelf():
        for name, value in vars(module).items():
            whole = not name.startswith("_") or STATEMENT.match(str(value))
            if name.isupper() and isinstance(value, str) and whole:
                yield f"{short(module)}.{name}", value


def numbered(statement: str) -> str:
    """The statement with psycopg's placeholders as Postgres' own: $1, $2, ..."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        name = found["name"] or f"positional {len(numbers)}"
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    return re.sub(r"%%|%(\((?P<name>\w+)\))?[sbt]", number, statement)


def actors(path: str) -> Iterator[tuple[str, str]]:
    """Name of each function decorated with @actor(Contract), and name of its contract."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func).split(".")[-1] == "actor":
                    yield node.name, ast.unparse(mark.args[0]).split(".")[-1]


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in files("shared", "producers", "workers", "tests"):
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def parameters(arguments: ast.arguments) -> list[ast.arg]:
    """What a caller passes; * and ** gather, they are not counted."""
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def users() -> dict[str, set[str]]:
    """The files that import each file."""
    found: dict[str, set[str]] = {}
    for path in files("shared", "producers", "workers"):
        for _, name in imports(path):
            place = name.replace(".", "/")
            for target in (f"{place}.py", f"{place}/__init__.py"):
                found.setdefault(target, set()).add(path)
    return found


def rooms_of(path: str, using: dict[str, set[str]]) -> list[str]:
    """The rooms beside `shared` that import a file, themselves or through `shared`.

    The authors' test bench is a room of its own: workflow tests of theirs import it.
    """
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        for user in using.get(waiting.pop(), set()) - seen:
            seen.add(user)
            if user.startswith("shared/"):
                waiting.append(user)
    bench = "shared/workflow/trial/"
    rooms = {bench if user.startswith(bench) else user.partition("/")[0] for user in seen}
    return sorted(rooms - {"shared"})


def skeleton(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The kinds of a function's nodes in their order: what differs in it differs in `shape`."""
    documented = ast.get_docstring(function, clean=False) is not None
    parts = [function.args, *function.body[documented:]]
    return " ".join(type(node).__name__ for part in parts for node in ast.walk(part))


def shape(function: ast.AST) -> str:
    """A function without its names, docstring and place: equal for functions that do the same."""
    bare = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(bare, ast.FunctionDef | ast.AsyncFunctionDef)
    names: dict[str, str] = {bare.name: "function"}
    bare.name = "function"
    if ast.get_docstring(bare, clean=False) is not None:
        del bare.body[0]
    for node in ast.walk(bare):
        if isinstance(node, ast.arg):
            node.arg = names.setdefault(node.arg, f"name{len(names)}")
        elif isinstance(node, ast.Name):
            node.id = names.setdefault(node.id, f"name{len(names)}")
    return ast.dump(bare)


def assert_none(broken: list[str], advice: str) -> None:
    """Fail with the advice and a line for each that is broken."""
    assert not broken, "\n  ".join([advice, *broken])
