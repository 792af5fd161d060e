"""Migrations: numbered steps, and functions, triggers and policies by their text.

Tables change by steps. Functions, triggers and policies are parts: each is applied again when its
text has changed, after the steps.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
# The row of "SchemaMigration" that says: this database has been made, or brought to version 1.
SCHEMA: Final = "schema"
# In a step's first line: it cannot run in a transaction, or would hold its locks for too long.
ONLINE: Final = "-- online"

_FUNCTIONS_OF: Final = re.compile(
    r"(?m)^CREATE OR REPLACE FUNCTION (?:public\.)?ailydian_(?!build_)(\w+)\("
)


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """A change of tables, applied once; `online` ones run statement by statement."""

    name: str
    script: str

    @property
    def digest(self) -> str:
        """What is noted beside its name."""
        return _digest(self.script)

    @property
    def online(self) -> bool:
        """Return whether it runs outside a transaction."""
        return self.script.startswith(ONLINE)


@dataclass(frozen=True, slots=True)
class Part:
    """A function, or a file of triggers or policies, named by its path without the suffix."""

    name: str
    script: str
    digest: str

    @property
    def function(self) -> str | None:
        """The function it makes; None for triggers and policies."""
        return function_of(self.name)


def first() -> SchemaStep:
    """Version 1 as one idempotent script: what databases older than the steps are brought to."""
    return SchemaStep(SCHEMA, (FOLDER / "versions" / "0001.sql").read_text())


def steps() -> list[SchemaStep]:
    """The steps since version 1, in their order: 0002_name, 0003_name and so on."""
    return [
        SchemaStep(path.stem, path.read_text())
        for path in sorted(FOLDER.glob("steps/[0-9][0-9][0-9][0-9]_*.sql"))
    ]


def parts() -> list[Part]:
    """Functions, then triggers, then policies; each kind in the order of the chapters."""
    tools = _code((FOLDER / "00_ground" / "tools.sql").read_text())
    found = [_function(path) for path in _files("functions/*.sql")]
    for pattern in ("triggers.sql", "policies.sql"):
        for path in _files(pattern):
            script = path.read_text()
            found.append(Part(_name(path), script, _digest(_code(script) + tools)))
    return found


def function_of(name: str) -> str | None:
    """The function that the part of this name makes; None for triggers and policies."""
    *folders, stem = name.split("/")
    return f"ailydian_{stem}" if folders[-1:] == ["functions"] else None


def functions_of_first() -> list[str]:
    """The functions of version 1, which noted none of them, named as parts are."""
    return [f"functions/{name}" for name in _FUNCTIONS_OF.findall(first().script)]


def ground(name: str) -> str:
    """A file of the ground: `tools`, `check` or `end`."""
    return (FOLDER / "00_ground" / f"{name}.sql").read_text()


def _files(pattern: str) -> list[Path]:
    return sorted(FOLDER.glob(f"[0-9][0-9]_*/{pattern}"))


def _function(path: Path) -> Part:
    script = path.read_text()
    # The comment before it is nobody's but the reader's; those in its body are the function's.
    begin, end = script.index("$"), script.rindex("$")
    head, body, tail = _code(script[:begin]), script[begin:end], _code(script[end:])
    if "ailydian_build_rights" not in tail and "RETURNS trigger" not in head:
        # One that had rights of its own, and has none any more, is the owner's alone again.
        script += f"CALL ailydian_build_rights('ailydian_{path.stem}');\n"
    return Part(_name(path), script, _digest(head + body + tail))


def _name(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def _code(script: str) -> str:
    """A script without what changes nothing: comments that begin a line, and empty lines."""
    lines = (line for line in script.splitlines() if line and not line.startswith("--"))
    return "\n".join(lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
