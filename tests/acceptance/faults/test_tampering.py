"""A superuser changes the audit log, and a checkpoint that was kept outside tells."""

import random

import psycopg
import pytest

from tests.acceptance.faults import tampering
from tests.support import sealed_log

TRUSTED = sealed_log.KEYS.trusted
EACH = 12


@pytest.fixture
def log(pool, database_url):
    sealed_log.make_log()
    with psycopg.connect(database_url) as conn:
        yield conn


@pytest.mark.parametrize("change", tampering.TAMPERINGS, ids=lambda change: change.__name__)
def test_each_change_is_found_by_a_checkpoint_that_was_kept(log, change):
    kept = tampering.kept_outside(log, TRUSTED)
    rng = random.Random(change.__name__)

    found = [tampering.tamper(log, TRUSTED, kept, rng, change) for _ in range(EACH)]

    assert [what for what, result in found if result.ok] == []
    assert tampering.verify(log, TRUSTED, kept).ok


def test_the_first_broken_entry_is_named(log):
    before = tampering.verify(log, TRUSTED, [])
    place = log.execute(
        """SELECT "chain", "seq", "auditId" FROM "AuditSeal" WHERE "seq" = 2 AND "chain" <> ''
           ORDER BY 1 LIMIT 1"""
    ).fetchone()
    log.execute("""UPDATE "AuditLog" SET "action" = 'innocent' WHERE "id" = %s""", [place[2]])

    [fault] = tampering.verify(log, TRUSTED, []).faults

    assert before.ok
    assert (fault.chain, fault.seq, fault.id) == place
    assert fault.why == "the entry was changed"
    assert fault.sentence == f"Chain {place[0]}, entry 2 ({place[2]}): the entry was changed."


def test_a_rewritten_chain_is_narrowed_down_to_the_second_of_a_kept_checkpoint(log):
    """The forger has the signing key, and computes everything anew."""
    kept = tampering.kept_outside(log, TRUSTED)
    chain = kept[0].heads[-1].chain
    log.execute(
        """UPDATE "AuditLog" SET "action" = 'innocent' WHERE "id" = (
               SELECT "auditId" FROM "AuditSeal" WHERE "chain" = %s ORDER BY "seq" DESC LIMIT 1)""",
        [chain],
    )
    tampering.rehash(log, chain)

    faults = tampering.verify(log, TRUSTED, kept).faults
    assert any(fault.chain is None and "heads" in fault.why for fault in faults)


def test_without_a_kept_checkpoint_an_old_state_looks_whole(log):
    """Why checkpoints are kept outside: what is left of an old dump fits together."""
    _, found = tampering.tamper(log, TRUSTED, [], random.Random(1), tampering.restore_old_dump)

    assert found.ok
