"""Write shared/schema/rights.txt, what a new database is: the end of `make schema`.

It is made on each version of Postgres that is tested; a fact that differs has a line for each.
"""

import tempfile
from pathlib import Path

import psycopg

from producers.operations import migration, security_checks
from shared.schema import versions
from tests.support import postgres_builds

PATH = versions.FOLDER / "rights.txt"


def read(conn: psycopg.Connection) -> list[str]:
    """The facts of a database, a line each."""
    with conn.transaction(force_rollback=True):
        facts = security_checks.facts(conn)
    lines = ["\t".join([one.check, one.object, one.name, one.fact]) for one in facts]
    assert not any("\n" in line for line in lines)
    return lines


def main() -> None:
    """Make databases on servers of their own, and write their facts down."""
    lines: set[str] = set()
    for build in postgres_builds.BUILDS.values():
        with tempfile.TemporaryDirectory(prefix="ailydian-rights-") as home:
            Path(home).chmod(0o711)
            with postgres_builds.use(Path(home), build) as servers:
                migration.migrate(servers.database_url)
                with psycopg.connect(servers.database_url) as conn:
                    lines.update(read(conn))
    PATH.write_text("".join(f"{line}\n" for line in sorted(lines)))


if __name__ == "__main__":
    main()
