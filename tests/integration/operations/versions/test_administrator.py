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

# What providers of managed servers add: as their own superuser, and for the login of a customer.
PROVIDER = """
    CREATE ROLE provider_admin NOLOGIN CREATEROLE CREATEDB REPLICATION;
    GRANT pg_monitor, pg_signal_backend, pg_read_all_data TO provider_admin;
    GRANT SET ON PARAMETER session_replication_role, log_statement TO provider_admin;
    GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO provider_admin;
    GRANT provider_admin TO plant;
    ALTER ROLE plant CREATEROLE CREATEDB BYPASSRLS;
    ALTER ROLE plant SET search_path = "$user", public, extensions;
    ALTER ROLE plant SET statement_timeout = '2min';
    ALTER ROLE supabase_admin SET search_path = "$user", public, auth, extensions;
    ALTER DATABASE ailydian SET "app.settings.jwt_secret" = 'x';
    ALTER DATABASE ailydian SET work_mem = '8MB';
    ALTER DATABASE ailydian OWNER TO provider_admin;
    CREATE ROLE pooler LOGIN;
    CREATE SCHEMA pooler AUTHORIZATION pooler;
    CREATE FUNCTION pooler.get_auth(name) RETURNS text LANGUAGE sql SECURITY DEFINER
        AS 'SELECT rolpassword FROM pg_authid WHERE rolname = $1';
    REVOKE ALL ON FUNCTION pooler.get_auth(name) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION pooler.get_auth(name) TO pooler;
    GRANT CREATE ON DATABASE ailydian TO pooler;
    CREATE SCHEMA extensions;
    CREATE EXTENSION pg_stat_statements SCHEMA extensions;
    CREATE EXTENSION pg_trgm SCHEMA extensions;
    CREATE EXTENSION citext SCHEMA extensions;
    GRANT USAGE ON SCHEMA extensions TO PUBLIC;
    CREATE FUNCTION extensions.watch() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
        AS 'BEGIN END';
    CREATE EVENT TRIGGER provider_watch ON ddl_command_end EXECUTE FUNCTION extensions.watch();
    CREATE FUNCTION extensions.provider_version() RETURNS text LANGUAGE sql SECURITY DEFINER
        AS $$ SELECT '1' $$;
    CREATE PUBLICATION provider_realtime;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO provider_admin
"""
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


def test_what_a_provider_adds_is_no_fault(cluster):
    with psycopg.connect(cluster, autocommit=True) as admin:
        admin.execute("""
            CREATE ROLE plant LOGIN;
            CREATE ROLE ailydian_owner NOLOGIN;
            CREATE ROLE ailydian_app NOLOGIN;
            CREATE ROLE ailydian_relay NOLOGIN;
            CREATE ROLE ailydian_audit_reader NOLOGIN;
            CREATE ROLE ailydian_platform NOLOGIN;
            GRANT ailydian_owner, ailydian_app, ailydian_relay, ailydian_audit_reader TO plant
                WITH INHERIT FALSE, SET TRUE;
            CREATE ROLE another LOGIN SUPERUSER;
            CREATE EXTENSION vector;
            GRANT USAGE, CREATE ON SCHEMA public TO ailydian_owner
        """)
    migrate(make_conninfo(cluster, user="plant"))
    with psycopg.connect(make_conninfo(cluster, user="another"), autocommit=True) as admin:
        admin.execute("ALTER ROLE postgres RENAME TO supabase_admin")
    with psycopg.connect(make_conninfo(cluster, user="supabase_admin"), autocommit=True) as admin:
        admin.execute("DROP ROLE another")
        admin.execute(PROVIDER)

        checks = verify(make_conninfo(cluster, user="plant"))

    assert [one for one in checks if not one.ok] == []
    assert {one.name: one.detail for one in checks}["logins"].startswith(
        "may do everything: plant, provider_admin, supabase_admin"
    )


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
