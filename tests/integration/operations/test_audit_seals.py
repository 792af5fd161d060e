"""Entries of the audit log are sealed once, in the order of their commits, whoever waits."""

import threading
from datetime import UTC, datetime

import psycopg
import pytest

from producers.operations import audit_keys, audit_log, audit_sealing
from shared import db
from shared.db import Role
from shared.errors import ConfigurationBroken
from shared.settings import Settings
from tests.support import sealed_log
from tests.support.factories import make_tenant, rows
from tests.support.sealed_log import KEYS, note, seal

SETTINGS = Settings(audit_key=sealed_log.SECRET)
SEALED = """
    SELECT s."chain", s."seq", a."action"
    FROM "AuditSeal" s JOIN "AuditLog" a ON a."id" = s."auditId"
    ORDER BY s."chain", s."seq"
"""


def sealed():
    return [tuple(row) for row in rows(SEALED)]


@pytest.fixture
def writer(database_url):
    """A connection of the platform's, whose transactions end when the test says so."""
    with psycopg.connect(database_url) as conn:
        yield conn


def forge(statement, *values):
    """As the owner of the tables, who may do what our roles may not."""
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values)


def test_each_tenant_has_a_chain_without_gaps_and_nothing_is_sealed_twice(pool):
    one, other = make_tenant("one"), make_tenant("other")
    note(one, "a", "b")
    note(other, "c")
    note(None, "d")

    assert seal() == 4
    assert seal() == 0
    note(one, "e")
    assert seal() == 1

    assert sealed() == [
        ("", 1, "d"),
        ("one", 1, "a"),
        ("one", 2, "b"),
        ("one", 3, "e"),
        ("other", 1, "c"),
    ]
    found = audit_log.verify_audit(SETTINGS)
    assert (found.ok, found.entries, found.checkpoints, found.pending) == (True, 5, 2, 0)


def test_a_transaction_that_is_open_holds_nobody_back_and_is_sealed_when_it_has_ended(pool, writer):
    writer.execute("""INSERT INTO "AuditLog" ("action", "resource") VALUES ('late', 'Job')""")
    note(None, "early")

    assert seal() == 1
    assert audit_log.verify_audit(SETTINGS).ok
    writer.commit()
    assert audit_log.verify_audit(SETTINGS).pending == 1
    assert seal() == 1

    assert sealed() == [("", 1, "early"), ("", 2, "late")]
    assert audit_log.verify_audit(SETTINGS).ok


def test_what_was_rolled_back_is_nowhere(pool, writer):
    writer.execute("""INSERT INTO "AuditLog" ("action", "resource") VALUES ('undone', 'Job')""")
    writer.rollback()
    note(None, "done")

    assert seal() == 1
    assert audit_log.verify_audit(SETTINGS).ok


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_small_batches_seal_the_same_chain(pool, limit):
    tenant = make_tenant("t")
    for number in range(3):
        note(tenant, *(f"{number}.{each}" for each in range(3)))
    assert seal_by(limit) == 9

    assert [row[1:] for row in sealed()] == [
        (number * 3 + each + 1, f"{number}.{each}") for number in range(3) for each in range(3)
    ]
    assert audit_log.verify_audit(SETTINGS).ok


def seal_by(limit):
    """Seal so many entries a transaction, each of which could be the last of a process."""
    audit_sealing.sweep(KEYS, stopped())  # places the events and seals nothing
    total = 0
    while True:
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            done = audit_sealing.seal(conn, KEYS, now=datetime.now(UTC), limit=limit)
        total += done.entries
        if not done.more:
            return total


def stopped():
    stop = threading.Event()
    stop.set()
    return stop


def test_a_batch_that_is_lost_is_sealed_again_as_if_nothing_had_been(pool):
    note(None, "a", "b")
    audit_sealing.sweep(KEYS, stopped())
    with pytest.raises(ZeroDivisionError):
        seal_and_break()

    assert sealed() == []
    assert seal() == 2
    assert audit_log.verify_audit(SETTINGS).ok


def seal_and_break():
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        assert audit_sealing.seal(conn, KEYS, now=datetime.now(UTC)).entries == 2
        raise ZeroDivisionError


def test_of_two_sealers_one_waits_for_nobody_and_does_nothing(pool):
    note(None, "a")
    audit_sealing.sweep(KEYS, stopped())
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        assert audit_sealing.seal(conn, KEYS, now=datetime.now(UTC)).entries == 1
        assert seal() == 0

    assert sealed() == [("", 1, "a")]


def test_where_nothing_waits_nothing_is_written(pool):
    note(None, "a")
    seal()
    places = """SELECT (SELECT max(xmin::text || xmax::text) FROM "AuditState"),
                       (SELECT xmin::text || xmax::text FROM "EventCursor"
                        WHERE "reader" = 'seals')"""
    before = rows(places)

    assert (seal(), seal()) == (0, 0)
    assert rows(places) == before


def test_many_writers_beside_a_sealer_lose_nothing(pool):
    tenants, stop = [make_tenant() for _ in range(3)], threading.Event()

    def write(tenant):
        for number in range(20):
            note(tenant, f"{number}")

    writers = [threading.Thread(target=write, args=(tenant,)) for tenant in tenants]
    for one in writers:
        one.start()
    while any(one.is_alive() for one in writers):
        audit_sealing.sweep(KEYS, stop)
    for one in writers:
        one.join()
    seal()

    by_chain = {tenant: [row[2] for row in sealed() if row[0] == tenant] for tenant in tenants}
    assert by_chain == {tenant: [str(number) for number in range(20)] for tenant in tenants}
    assert audit_log.verify_audit(SETTINGS).ok


def test_entries_of_a_deleted_tenant_stay_its_own(pool):
    tenant = make_tenant("gone")
    note(tenant, "a")
    seal()
    forge('DELETE FROM "Tenant" WHERE "id" = %s', tenant)

    assert audit_log.verify_audit(SETTINGS).ok
    assert sealed() == [("gone", 1, "a")]


def test_an_entry_that_is_older_than_an_hour_when_it_is_sealed_is_told_of(pool):
    note(None, "a")
    forge(
        """INSERT INTO "AuditLog" ("action", "resource", "createdAt")
           VALUES ('forged', 'Job', now() AT TIME ZONE 'UTC' - interval '61 minutes')"""
    )
    seal()

    found = audit_log.verify_audit(SETTINGS)
    assert (found.ok, found.late) == (True, 1)


def test_a_fold_waits_for_the_sealer_before_it_is_deleted(pool):
    note(None, "a")
    audit_sealing.sweep(KEYS, stopped())
    place = """SELECT "position" FROM "EventCursor" WHERE "reader" = 'seals'"""
    assert rows(place) == [(0,)]
    seal()
    assert rows(place) == [(2**63 - 1,)]


RESTORED = (
    'DELETE FROM "JobEvent"',
    'DELETE FROM "EventFold"',
    'DELETE FROM "EventCursor"',
    """UPDATE "AuditLog" a SET "xid" = pg_current_xact_id()
       WHERE NOT EXISTS (SELECT FROM "AuditSeal" s WHERE s."auditId" = a."id")""",
)


@pytest.mark.parametrize("limit", [2, 100])
def test_after_a_dump_was_restored_the_chain_goes_on(pool, limit):
    """Transactions of the old cluster mean nothing in the new one."""
    note(None, "a", "b", "c")
    seal()
    note(None, "d")
    forge('UPDATE "AuditLog" SET "xid" = \'9000000000000000000\'')
    assert not audit_log.verify_audit(SETTINGS).ok
    for statement in RESTORED:
        forge(statement)
    note(None, "e")

    seal()
    assert seal_by(limit) == 0
    assert [row[2] for row in sealed()] == ["a", "b", "c", "d", "e"]
    assert audit_log.verify_audit(SETTINGS).ok


def test_keys_are_derived_told_apart_and_must_be_long(pool):
    first, second = "a" * 32, "b" * 32
    both = audit_keys.audit_keys(Settings(audit_key=f"{first}, {second}"))

    assert both.trusted[0] == audit_keys.audit_keys(Settings(audit_key=first)).trusted[0]
    assert both.trusted[1] == audit_keys.audit_keys(Settings(audit_key=second)).trusted[0]
    with pytest.raises(ConfigurationBroken, match="AILYDIAN_AUDIT_KEY"):
        audit_keys.audit_keys(Settings(audit_key="short"))


def test_after_a_change_of_the_key_old_checkpoints_are_trusted_while_it_is_named(pool):
    note(None, "a")
    seal(KEYS)
    note(None, "b")
    seal(sealed_log.OTHER_KEYS)

    both = Settings(audit_key=f"{sealed_log.OTHER_SECRET},{sealed_log.SECRET}")
    assert audit_log.verify_audit(both).ok
    alone = audit_log.verify_audit(Settings(audit_key=sealed_log.OTHER_SECRET))
    assert "checkpoint 1: it is signed by another key" in alone.faults[0].why
