"""Databases of version 1, and a copy of the schema that a test may change."""

from pathlib import Path

import psycopg
import pytest

from shared.schema import versions
from shared.servers import embedded_postgres
from tests.support import schema_copy


@pytest.fixture
def make_database(servers, admin, _number: int):
    """Makes a database by a script, and gives its URL."""
    made = []

    def make(script: str = "", template: str = "template1") -> str:
        name = f"version_{_number}_{len(made)}"
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        made.append(name)
        url = servers.database_url.replace(f"/{embedded_postgres.DATABASE}?", f"/{name}?")
        with psycopg.connect(url) as conn:
            conn.execute(script.encode())
        return url

    yield make
    for name in made:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def template_of_version_1(servers, admin) -> str:
    """The name of a database as version 1 left it: its whole file, and that file's hash."""
    admin.execute("CREATE DATABASE version_1")
    url = servers.database_url.replace(f"/{embedded_postgres.DATABASE}?", "/version_1?")
    with psycopg.connect(url) as conn:
        conn.execute(versions.first().script.encode())
        conn.execute(
            """INSERT INTO "SchemaMigration" ("version", "sha256") VALUES ('schema', %s)""",
            (versions.first().digest,),
        )
    return "version_1"


@pytest.fixture
def version_1(make_database, template_of_version_1) -> str:
    """A database as version 1 left it."""
    return make_database(template=template_of_version_1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the schema's files, which the next migration reads."""
    return schema_copy.put(tmp_path, monkeypatch)
