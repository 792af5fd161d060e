"""The schema as files: chapters of tables, functions, triggers and policies, and their order."""

from pathlib import Path
from typing import Final

from shared.schema import versions

HEAD: Final = """\
-- Ailydian workers: every table.
--
-- Generated from shared/schema by `make schema`; edit there, shared/schema/README.md says how.
--
-- Idempotent: a second run changes nothing and takes no lock that stops a reader or a writer.
-- Safe in one transaction; run it with `ailydian migrate`, or with psql -1 -f schema.sql.
--
-- Thirty-five tables belong to the platform, whose Prisma client reads and writes them untouched:
-- their names, types, keys and defaults are its contract, and no CHECK of ours narrows them. What
-- is ours stands in our own tables and, below the line `-- ours`, in columns of ours.
"""


def chapters() -> list[Path]:
    """The folders of the chapters, in the order in which they are applied."""
    return sorted(versions.FOLDER.glob("[0-9][0-9]_*"))


def functions() -> list[Path]:
    """The files of the functions, chapter by chapter; each is named by its function."""
    return [path for chapter in chapters() for path in sorted(chapter.glob("functions/*.sql"))]


def files() -> list[Path]:
    """Every file of the schema, in the order in which they are applied."""
    ground = versions.FOLDER / "00_ground"
    ordered = [ground / "begin.sql", ground / "tools.sql"]
    for chapter in chapters():
        ordered += [
            chapter / "tables.sql",
            *sorted(chapter.glob("functions/*.sql")),
            chapter / "triggers.sql",
            chapter / "policies.sql",
        ]
    ordered += [ground / "versions.sql", ground / "check.sql", ground / "end.sql"]
    return [path for path in ordered if path.exists()]


def text() -> str:
    """The whole schema as one script: what schema.sql at the top level holds."""
    sections = [f"-- {path.relative_to(versions.FOLDER)}\n\n{path.read_text()}" for path in files()]
    applied = [f"{step.name} {step.digest}" for step in [versions.first(), *versions.steps()]]
    return "\n\n".join([HEAD, *sections]).replace("/* applied */", ",".join(applied))


def rights() -> list[tuple[str, ...]]:
    """The policies, grants, owners, triggers and functions of a new database, as it states them.

    Each as the check, the object, the name and the fact; `make schema` writes them.
    """
    lines = (versions.FOLDER / "rights.txt").read_text().splitlines()
    return [tuple(line.split("\t")) for line in lines]
