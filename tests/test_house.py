"""The house style, where a machine can check it. A rule that is not checked is a wish."""

import ast
import fnmatch
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass

from shared.contracts import CONTRACTS
from tests.support import source_code
from tests.support.source_code import ROOT, assert_none

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "Procfile",
    "README.md",
    "docker-compose.yml",
    "producers",
    "pyproject.toml",
    "requirements.lock",
    "schema.sql",
    "shared",
    "tests",
    "workers",
}

# Files that may hold SQL though they are not on the shelf, and why.
SQL_ELSEWHERE = {
    "producers/ledger/notifications.py": "LISTEN, on a connection of its own",
    "producers/operations/administrator.py": "prints what an administrator runs",
    "shared/db.py": "BEGIN, set_config, COMMIT: the one helper that opens transactions",
    "shared/ledger/outbox.py": "the claim of a receipt travels with BEGIN, before a connection",
    "shared/schema/versions.py": "completes the scripts of functions with who may execute them",
    "shared/servers/embedded_postgres.py": "makes our database, before there is any schema",
}

# The second level of every room that has one: the same subjects under the same words.
CHAPTERS = frozenset(
    ["ledger", "documents", "messages", "judgement", "models", "workflow", "operations", "accounts"]
)
# Folders of a room that are no chapter, and what they hold.
OTHER_FOLDERS = {
    "shared": {
        "egress": "requests to the outside",
        "observability": "logs, traces, redaction",
        "queries": "SQL",
        "schema": "the tables and functions that schema.sql is made from",
        "servers": "embedded Postgres and Valkey",
        "text": "pure knowledge of Turkish and English text",
    },
    "producers": {
        "cli": "the `ailydian` command",
        "demo": "the documents of `ailydian demo`",
        "launcher": "the console script of the wheel",
        "queries": "SQL",
        "web": "the HTTP server",
    },
    "producers/cli": {
        "demo": "the command `demo`",
        "roles": "long-running processes and their children",
        "terminal": "output, input and errors of all commands",
    },
    "workers": {
        "actors": "one module or folder a queue",
        "cache": "the semantic cache of completions",
        "domain": "pure decisions",
        "parsers": "bytes to text",
        "process": "the worker process",
        "queries": "SQL",
        "steps": "one module a step kind",
    },
    "workers/domain": {},
    "shared/queries": {},
    "producers/queries": {},
    "workers/queries": {},
}
# Modules of `shared` that one room alone imports and that stay, and why.
ONE_SIDED = {
    "shared/schema/": "data that belongs beside the tables",
    "shared/text/": "one room of knowledge, whoever needs which part",
    "shared/workflow/trial/": "the authors' test bench: tests of theirs import it",
}
EQUAL_LINES_MIN = 8


@dataclass(frozen=True)
class Room:
    """What the files below a folder may import; None stands for any library."""

    folder: str
    ours: frozenset[str]
    libraries: frozenset[str] | None = None
    never: frozenset[str] = frozenset()


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Modules of the standard library that reach out of the process, or read clock and chance.
NOT_PURE = "asyncio http logging secrets socket ssl subprocess time urllib uuid"

# A file belongs to the first room that holds it. `workers.parsers` stands in for the parser
# libraries with actors: they see its values, and `workers.sandbox` runs it.
ROOMS = [
    # Any room may use it, so it knows none of them.
    Room(
        "shared/text",
        _set("shared.text shared.errors"),
        # fasttext holds the language model of a pinned wheel; the others count tokens and check
        # identifiers
        _set("fasttext splintr stdnum tiktoken"),
        _set(NOT_PURE),
    ),
    Room(
        "shared/models/providers",
        _set("shared.models shared.settings shared.errors shared.text"),
        never=_set("psycopg psycopg_pool"),
    ),
    *(
        Room(
            f"{room}/queries",
            _set("shared.db shared.ids shared.errors"),
            _set("psycopg numpy pgvector"),
            _set("logging"),
        )
        for room in ("shared", "producers", "workers")
    ),
    Room("shared", _set("shared")),
    Room("producers", _set("shared producers")),
    Room(
        "workers/domain",
        # the limits are plain numbers, of which each stands once
        _set("workers.domain shared.errors shared.ids shared.text shared.workflow.limits"),
        # regex knows grapheme clusters
        _set("numpy regex"),
        _set(NOT_PURE),
    ),
    Room(
        "workers/parsers",
        _set("workers.parsers shared.errors"),
        _set("charset_normalizer docx lxml openpyxl pptx pypdfium2 selectolax striprtf"),
        _set("asyncio http logging secrets socket ssl subprocess"),
    ),
    # The page of a queue whose actors have a folder: it only gathers them.
    Room("workers/actors/scoring/__init__.py", _set("workers.actors.scoring"), _set("")),
    Room(
        "workers/actors",
        _set(
            "shared workers.process.broker workers.domain workers.steps workers.sandbox "
            "workers.parsers workers.judgement workers.queries"
        ),
    ),
    Room("workers", _set("shared workers")),
]


def test_every_room_imports_only_what_it_may():
    broken = []
    for path in source_code.files("shared", "producers", "workers"):
        room = next(room for room in ROOMS if f"{path}/".startswith(f"{room.folder}/"))
        for line, name in source_code.imports(path):
            if not _may(room, path, name):
                ours = ", ".join(sorted(room.ours))
                broken.append(f"{path}:{line} imports {name}; of ours {room.folder} sees: {ours}")

    assert_none(
        broken, "Rooms speak through publish, contracts and arguments; see .github/CONTRIBUTING.md."
    )


def test_every_room_is_cut_into_the_same_chapters():
    found = {
        (room, path.removeprefix(f"{room}/").partition("/")[0])
        for room in OTHER_FOLDERS
        for path in source_code.files(room)
        if "/" in path.removeprefix(f"{room}/")
    }
    wanted = {(room, name) for room, names in OTHER_FOLDERS.items() for name in names}

    broken = [f"{room}/{name}" for room, name in found - wanted if name not in CHAPTERS]
    assert_none(broken, f"A folder is a chapter ({', '.join(sorted(CHAPTERS))}) or listed above.")
    assert wanted <= found, "a folder of OTHER_FOLDERS is gone"


def test_what_one_room_alone_uses_lives_in_it():
    users = source_code.users()
    broken = []
    for path in source_code.files("shared"):
        rooms = source_code.rooms_of(path, users)
        kept = path.startswith(tuple(ONE_SIDED)) or path.endswith("/__init__.py")
        if len(rooms) < 2 and not kept:
            broken.append(f"{path} is used by {', '.join(rooms) or 'nobody'}")

    assert_none(broken, "Move it to the room that uses it; shared is what both need.")


def test_no_function_is_written_twice():
    alike: dict[str, list[tuple[str, ast.AST]]] = {}
    for path, function in source_code.functions():
        if function.end_lineno - function.lineno + 1 >= EQUAL_LINES_MIN:
            where = f"{path}:{function.lineno} {function.name}"
            alike.setdefault(source_code.skeleton(function), []).append((where, function))

    places: dict[str, list[str]] = {}
    for where, function in (one for many in alike.values() if len(many) > 1 for one in many):
        places.setdefault(source_code.shape(function), []).append(where)
    broken = [" = ".join(equal) for equal in places.values() if len(equal) > 1]
    assert_none(broken, "The same but for names: keep one, and let both call it.")


def test_equal_functions_have_one_shape():
    one, other, longer = ast.parse(
        "def a(x, *, by):\n  y = x + by\n  return y.z\n"
        'def b(v, *, n):\n  """Say."""\n  w = v + n\n  return w.z\n'
        "def c(v, *, n):\n  w = v + n\n  return w.y\n"
    ).body

    assert source_code.skeleton(one) == source_code.skeleton(other)
    assert source_code.shape(one) == source_code.shape(other)
    assert source_code.shape(one) != source_code.shape(longer)


def test_imports_are_absolute():
    broken = [
        f"{path}:{node.lineno}"
        for path in source_code.files("shared", "producers", "workers", "tests")
        for node in source_code.nodes(path)
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]

    assert_none(broken, "Write the whole name: from shared.errors import ...")


def test_decisions_take_time_and_chance_as_arguments():
    broken = []
    for path in source_code.files("workers/domain", "shared/text"):
        for node in source_code.nodes(path):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute) else ""
            clock = re.search(r"\.(now|today|utcnow)\(", text)
            unseeded = re.search(r"\b(Random|default_rng)\(\)", text)
            shared_state = re.match(
                r"(np\.random\.(?!Generator|default_rng)|random\.(?!Random))\w+$", text
            )
            called = isinstance(node, ast.Call) and (clock or unseeded)
            if called or shared_state:
                broken.append(f"{path}:{node.lineno} {text}")

    assert_none(broken, "Take `now` or `rng` as an argument; the caller owns time and chance.")


def test_sql_stands_on_its_shelf():
    found = {
        path: lines
        for path in source_code.files("shared", "producers", "workers")
        if "/queries/" not in path and (lines := source_code.sql_lines(path))
    }

    broken = [f"{path}:{lines}" for path, lines in found.items() if path not in SQL_ELSEWHERE]
    assert_none(broken, "Move the statement into a `queries` folder.")
    assert SQL_ELSEWHERE.keys() <= found.keys(), "an exception of SQL_ELSEWHERE is not needed"


def test_every_contract_has_exactly_one_actor():
    actors = Counter()
    broken = []
    for path in source_code.files("workers/actors"):
        for function, contract in source_code.actors(path):
            actors[contract] += 1
            kind = next((kind for kind in CONTRACTS.values() if kind.__name__ == contract), None)
            if kind is None:
                broken.append(f"{path}: {function} serves {contract}, which is no contract")
            elif (function, _queue_of(path)) != (kind.actor_name, kind.queue_name):
                broken.append(
                    f"{path}: {function} serves {contract}: it must be named {kind.actor_name} "
                    f"and stand in workers/actors/{kind.queue_name}.py, or in a folder of that name"
                )

    ours = [kind for kind in CONTRACTS.values() if kind.__module__ == "shared.contracts"]
    for kind in ours:
        if actors[kind.__name__] != 1:
            broken.append(f"{kind.__name__} has {actors[kind.__name__]} actors")
    assert_none(broken, "Each contract of shared/contracts.py has one @actor(Contract).")


def test_only_settings_read_the_environment():
    broken = [
        f"{path}:{node.lineno}"
        for path in source_code.files("shared", "producers", "workers")
        if path != "shared/settings.py"
        for node in source_code.nodes(path)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.alias) and node.name in {"environ", "environb", "getenv"})
    ]

    assert_none(broken, "Add a field to Settings in shared/settings.py and read that.")


def test_files_are_short():
    broken = [
        f"{path} has {lines} lines, at most {FILE_LINES_MAX}"
        for path in source_code.files("shared", "producers", "workers", "tests")
        if (lines := len((ROOT / path).read_text().splitlines())) > FILE_LINES_MAX
    ]

    assert_none(broken, "Split it where its prose head would need an `and`.")


def test_functions_are_short_and_take_few_parameters():
    broken = []
    for path, function in source_code.functions():
        lines = function.end_lineno - function.lineno + 1
        names = [
            it.arg for it in source_code.parameters(function.args) if it.arg not in {"self", "cls"}
        ]
        where = f"{path}:{function.lineno} {function.name}"
        if lines > FUNCTION_LINES_MAX:
            broken.append(f"{where} has {lines} lines, at most {FUNCTION_LINES_MAX}")
        if len(names) > PARAMETERS_MAX:
            broken.append(f"{where} takes {len(names)} parameters, at most {PARAMETERS_MAX}")

    assert_none(broken, "Name its parts, or give what belongs together a dataclass.")


def test_the_top_level_holds_what_the_style_fixed():
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    found = {
        entry.name
        for entry in ROOT.iterdir()
        if not entry.name.startswith(".")
        and not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignored)
    }

    assert found - TOP_LEVEL == set(), (
        "these belong into a room, or into .github/CONTRIBUTING.md first"
    )
    assert TOP_LEVEL - found == set(), "these are promised by .github/CONTRIBUTING.md and missing"


def test_no_test_is_skipped_sleeps_or_mocks():
    broken = []
    for path in (path for path in source_code.files("tests") if "/test_" in path):
        for node in source_code.nodes(path):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"(pytest|mark|pytest\.mark)\.(skip|skipif|xfail|importorskip)", text):
                broken.append(f"{path}:{node.lineno} {text}")
            if text in {"time.sleep", "asyncio.sleep"}:
                broken.append(f"{path}:{node.lineno} {text}: wait for the fact itself")
        broken += [
            f"{path}:{at} {it}" for at, it in source_code.imports(path) if it == "unittest.mock"
        ]

    assert_none(broken, "A test that does not run, waits blindly or mocks us proves nothing.")


def test_the_lock_pins_by_hash_and_names_no_registry():
    lock = (ROOT / "requirements.lock").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", lock.strip()) if entry]

    assert not re.search(r"://|--(extra-)?index-url|--find-links|^\s*#|file:", lock, re.MULTILINE)
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert [entry for entry in entries if not re.match(r"[a-z0-9._-]+==\S+", entry)] == []


def test_the_lock_holds_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + extras["embedded"] + extras["dev"]
    lock = (ROOT / "requirements.lock").read_text()

    bare = (re.sub(r"\[.*?\]|\s*;.*", "", requirement) for requirement in asked)
    pinned = {requirement for requirement in bare if "==" in requirement}
    assert {it for it in pinned if f"\n{it} " not in f"\n{lock}"} == set(), "run `make lock`"


def _queue_of(path: str) -> str:
    return path.removeprefix("workers/actors/").removesuffix(".py").partition("/")[0]


def _may(room: Room, path: str, name: str) -> bool:
    top = name.partition(".")[0]
    if top in {"shared", "producers", "workers", "tests"}:
        return any(name == it or name.startswith(f"{it}.") for it in room.ours)
    if top in room.never:
        return False
    return top in sys.stdlib_module_names or room.libraries is None or top in room.libraries
