"""Write shared/schema/rights.txt, what a new database's rights are: the end of `make schema`."""

import tempfile
from pathlib import Path

import psycopg

from producers.operations import migration
from producers.queries.operations import security_facts
from shared.schema import versions
from shared.servers import embedded
from shared.settings import Settings

PATH = versions.FOLDER / "rights.txt"


def read(conn: psycopg.Connection) -> str:
    """The facts of a database, a line each."""
    with conn.transaction():
        security_facts.qualify_names(conn)
        facts = security_facts.select_facts(conn)
    lines = ["\t".join([one.check, one.object, one.name, one.fact]) for one in facts]
    assert not any("\n" in line for line in lines)
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Make a database on servers of its own, and write its facts down."""
    with (
        tempfile.TemporaryDirectory(prefix="ailydian-rights-") as home,
        embedded.use(Settings(home=Path(home)), durable=False) as servers,
    ):
        migration.migrate(servers.database_url)
        with psycopg.connect(servers.database_url) as conn:
            PATH.write_text(read(conn))


if __name__ == "__main__":
    main()
