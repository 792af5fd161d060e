"""A worker does not start where its role could see every tenant's rows."""

from contextlib import contextmanager

import psycopg
import pytest

from shared.errors import ConfigurationBroken
from tests.support import factories
from tests.support.factories import job, make_tenant, publish_probe, rows
from tests.support.worker_starts import start_and_wait
from workers.process import start_checks

PROTECTED = (
    *("Document", "DocumentChunk", "ChunkEmbedding", "ChunkVector", "ChunkText"),
    *("Message", "MessageEmbedding", "Job", "Upload"),
    *("WorkflowStep", "Publisher", "AuditLog", "TenantDepth", "ModelUse"),
)


@pytest.fixture
def superuser(database_url, pool):
    """A superuser: each statement its own transaction."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


@contextmanager
def changed(superuser, change, back):
    """Change a role for a while: roles are the cluster's, and other tests need them whole."""
    superuser.execute(change)
    try:
        yield
    finally:
        superuser.execute(back)


def check():
    start_checks.check()


def test_a_sound_database_is_accepted(superuser):
    check()


@pytest.mark.parametrize("role", ["ailydian_app", "ailydian_relay"])
@pytest.mark.parametrize(
    ("change", "back", "why"),
    [
        ("ALTER ROLE {} SUPERUSER", "ALTER ROLE {} NOSUPERUSER", "is a superuser"),
        ("ALTER ROLE {} BYPASSRLS", "ALTER ROLE {} NOBYPASSRLS", "has BYPASSRLS"),
        ("GRANT ailydian_owner TO {}", "REVOKE ailydian_owner FROM {}", "owns the tables"),
    ],
)
def test_a_role_that_no_policy_binds_is_refused(superuser, role, change, back, why):
    with (
        changed(superuser, change.format(role), back.format(role)),
        pytest.raises(ConfigurationBroken, match=f"{role} {why}"),
    ):
        check()

    check()


def test_membership_through_another_role_is_refused_too(superuser):
    superuser.execute("CREATE ROLE between_of_a_test NOLOGIN IN ROLE ailydian_owner")

    with (
        changed(
            superuser, "GRANT between_of_a_test TO ailydian_app", "DROP ROLE between_of_a_test"
        ),
        pytest.raises(ConfigurationBroken, match="owns the tables"),
    ):
        check()

    check()


@pytest.mark.parametrize(("lost", "back"), [("NO FORCE", "FORCE"), ("DISABLE", "ENABLE")])
def test_a_table_without_enforced_policies_is_refused(superuser, lost, back):
    for table in PROTECTED:
        superuser.execute(f'ALTER TABLE "{table}" {lost} ROW LEVEL SECURITY')
        with pytest.raises(ConfigurationBroken, match=f'"{table}"'):
            check()
        superuser.execute(f'ALTER TABLE "{table}" {back} ROW LEVEL SECURITY')

    check()


def test_a_worker_process_ends_at_once_and_takes_nothing(superuser, database_url, redis_url):
    job_id = publish_probe(make_tenant())
    relay = factories.make_relay(redis_url)
    for _ in range(2):
        relay.step()

    with changed(
        superuser, "ALTER ROLE ailydian_app BYPASSRLS", "ALTER ROLE ailydian_app NOBYPASSRLS"
    ):
        ended = start_and_wait(
            "workers.process.main",
            "--queues",
            "maintenance",
            database_url=database_url,
            redis_url=redis_url,
        )

    assert ended.returncode != 0
    assert "ailydian_app has BYPASSRLS" in ended.stderr
    assert (job(job_id)["state"], job(job_id)["attempt"]) == ("PENDING", 0)
    assert rows('SELECT 1 FROM "WorkerProcess"') == []
