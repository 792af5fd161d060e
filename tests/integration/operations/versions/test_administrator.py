"""A user without any special right migrates after an administrator did what the message says."""

import re
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from producers.cli.terminal import failures
from producers.operations.migration import migrate
from producers.operations.verification import verify
from shared.errors import AdministratorNeeded
from shared.servers import embedded_postgres

PAGE = Path(__file__).parents[4] / "producers" / "cli" / "README.md"


@pytest.fixture
def cluster(servers):
    """A Postgres that knows none of our roles yet; its own, because roles are the cluster's."""
    home = Path(tempfile.mkdtemp(prefix="ailydian-tests-"))
    home.chmod(0o711)
    try:
        yield embedded_postgres.start(home, durable=False)
    finally:
        embedded_postgres.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def test_the_message_the_page_and_the_migration_agree(cluster):
    with psycopg.connect(cluster, autocommit=True) as admin:
        admin.execute("CREATE ROLE plant LOGIN")
        admin.execute("ALTER DATABASE ailydian OWNER TO plant")
        url = make_conninfo(cluster, user="plant")

        with pytest.raises(AdministratorNeeded) as refused:
            migrate(url)
        told = failures.reported(refused.value, as_json=False).message
        sql = told.partition("\n\n")[2]
        admin.execute(sql.encode())

    assert "Internal error" not in told
    assert f"```text\n{sql}\n```" in PAGE.read_text()
    assert re.findall(r"CREATE ROLE (\w+)", sql) == [
        "ailydian_owner",
        "ailydian_app",
        "ailydian_relay",
        "ailydian_audit_reader",
        "ailydian_platform",
    ]
    assert migrate(url).applied == ["schema"]
    assert [one for one in verify(url) if not one.ok] == []


def test_only_what_is_missing_is_asked_for(cluster):
    with psycopg.connect(cluster, autocommit=True) as admin:
        migrate(cluster)
        admin.execute("CREATE ROLE plant LOGIN")
        admin.execute("CREATE DATABASE other OWNER plant")
        url = make_conninfo(cluster, user="plant", dbname="other")

        with pytest.raises(AdministratorNeeded) as refused:
            migrate(url)

    assert str(refused.value).partition("\n\n")[2].splitlines() == [
        "CREATE EXTENSION vector;",
        "GRANT ailydian_owner, ailydian_app, ailydian_relay, ailydian_audit_reader TO plant "
        "WITH INHERIT FALSE, SET TRUE;",
    ]
