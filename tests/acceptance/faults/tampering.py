"""What a superuser can do to the audit log, each in a transaction that is rolled back.

`python -m tests.acceptance.faults.tampering --count 10000 --seed 7`: random ones, each compared
with a checkpoint that was kept outside. Ends 1 if one is not found.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from producers.operations import audit_checkpoints, audit_verification, audit_verifier
from producers.operations.audit_checkpoints import KeptCheckpoint
from producers.operations.audit_verification import Verification
from producers.queries.operations import audit_seals, audit_walk
from tests.benchmarks import harness
from tests.support import sealed_log

Tampering = Callable[[psycopg.Connection, random.Random], str]


@dataclass(frozen=True)
class Place:
    """A sealed entry."""

    chain: str
    seq: int
    id: str


def _any(conn, rng) -> Place:
    rows = conn.execute(
        'SELECT "chain", "seq", "auditId" FROM "AuditSeal" ORDER BY 1, 2'
    ).fetchall()
    return Place(*rng.choice(rows))


def _set(conn, rng, column, value):
    at = _any(conn, rng)
    conn.execute(f'UPDATE "AuditLog" SET "{column}" = {value} WHERE "id" = %s', [at.id])
    return f"{column} of {at}"


def edit_field(conn, rng):
    column = rng.choice(["userId", "action", "resource", "resourceId", "ipAddress", "userAgent"])
    return _set(conn, rng, column, f"coalesce(\"{column}\", '') || 'x'")


def empty_field(conn, rng):
    return _set(conn, rng, "metadata", "NULL")


def edit_time(conn, rng):
    return _set(conn, rng, "createdAt", "\"createdAt\" - interval '1 ms'")


def delete_entry(conn, rng):
    at = _any(conn, rng)
    conn.execute('DELETE FROM "AuditLog" WHERE "id" = %s', [at.id])
    return f"entry {at}"


def delete_with_seal(conn, rng):
    at = _any(conn, rng)
    conn.execute('DELETE FROM "AuditLog" WHERE "id" = %s', [at.id])
    conn.execute('DELETE FROM "AuditSeal" WHERE "auditId" = %s', [at.id])
    return f"entry and seal {at}"


def delete_seal(conn, rng):
    at = _any(conn, rng)
    conn.execute('DELETE FROM "AuditSeal" WHERE "auditId" = %s', [at.id])
    return f"seal {at}"


def swap_entries(conn, rng):
    one, other = _two(conn, rng)
    conn.execute(
        """UPDATE "AuditLog" a SET "action" = b."action", "metadata" = b."metadata",
                  "createdAt" = b."createdAt"
           FROM "AuditLog" b WHERE (a."id", b."id") IN ((%(a)s, %(b)s), (%(b)s, %(a)s))""",
        {"a": one.id, "b": other.id},
    )
    return f"{one} with {other}"


def swap_seals(conn, rng):
    one, other = _two(conn, rng)
    conn.execute('UPDATE "AuditSeal" SET "auditId" = \'\' WHERE "auditId" = %s', [one.id])
    conn.execute('UPDATE "AuditSeal" SET "auditId" = %s WHERE "auditId" = %s', [one.id, other.id])
    conn.execute('UPDATE "AuditSeal" SET "auditId" = %s WHERE "auditId" = \'\'', [other.id])
    return f"seals of {one} with {other}"


def _two(conn, rng):
    one = _any(conn, rng)
    while (other := _any(conn, rng)).id == one.id:
        pass
    return one, other


def move_to_tenant(conn, rng):
    at = _any(conn, rng)
    tenants = [None, *(row[0] for row in conn.execute('SELECT "id" FROM "Tenant" ORDER BY 1'))]
    tenant = rng.choice([one for one in tenants if (one or "") != at.chain])
    conn.execute('UPDATE "AuditLog" SET "tenantId" = %s WHERE "id" = %s', [tenant, at.id])
    return f"{at} to {tenant}"


def insert_beside(conn, rng):
    at = _any(conn, rng)
    conn.execute(
        """INSERT INTO "AuditLog" ("tenantId", "action", "resource", "createdAt", "xid")
           SELECT a."tenantId", 'forged', 'Job', a."createdAt", a."xid" FROM "AuditLog" a
           WHERE a."id" = %s""",
        [at.id],
    )
    return f"beside {at}"


def insert_for_the_future(conn, rng):
    conn.execute(
        """INSERT INTO "AuditLog" ("action", "resource", "xid")
           VALUES ('forged', 'Job', '9000000000000000000')"""
    )
    return "of a transaction that is to come"


def insert_sealed(conn, rng):
    """At the end of a chain, with a hash that fits."""
    at = _last(conn, rng)
    [entry] = conn.execute(
        """INSERT INTO "AuditLog" ("tenantId", "action", "resource", "xid")
           VALUES (nullif(%s, ''), 'forged', 'Job', '3') RETURNING "id" """,
        [at.chain],
    ).fetchone()
    conn.execute(
        'INSERT INTO "AuditSeal" VALUES (%s, %s, %s, %s)', [at.chain, at.seq + 1, entry, bytes(32)]
    )
    rehash(conn, at.chain)
    return f"after {at}"


def _last(conn, rng) -> Place:
    chain = _any(conn, rng).chain
    row = conn.execute(
        """SELECT "chain", "seq", "auditId" FROM "AuditSeal" WHERE "chain" = %s
           ORDER BY "seq" DESC LIMIT 1""",
        [chain],
    ).fetchone()
    return Place(*row)


def rehash(conn, chain) -> None:
    """Compute a chain anew, as one would who knows the formulas and not the key."""
    before = audit_verifier.NOTHING
    rows = conn.execute(audit_walk.SELECT_SEALED, {"chain": chain, "after": None, "to": None})
    for seq, row in enumerate(rows.fetchall(), 1):
        before = audit_verifier.entry_hash(before, chain, seq, row[6:])
        conn.execute(
            'UPDATE "AuditSeal" SET "seq" = %s, "hash" = %s WHERE "auditId" = %s',
            [seq, before, row[2]],
        )
    conn.execute(
        'UPDATE "AuditChain" SET "seq" = %s, "hash" = %s WHERE "chain" = %s', [seq, before, chain]
    )
    conn.execute(
        """UPDATE "AuditHead" h SET "hash" = s."hash" FROM "AuditSeal" s
           WHERE (h."chain", h."seq") = (s."chain", s."seq") AND h."chain" = %s""",
        [chain],
    )


def edit_and_rehash(conn, rng):
    at = _any(conn, rng)
    conn.execute("""UPDATE "AuditLog" SET "action" = 'innocent' WHERE "id" = %s""", [at.id])
    rehash(conn, at.chain)
    return f"{at} and the chain after it"


def delete_and_rehash(conn, rng):
    at = _any(conn, rng)
    conn.execute('DELETE FROM "AuditLog" WHERE "id" = %s', [at.id])
    conn.execute('DELETE FROM "AuditSeal" WHERE "auditId" = %s', [at.id])
    left = conn.execute('SELECT count(*) FROM "AuditSeal" WHERE "chain" = %s', [at.chain])
    if left.fetchone()[0]:
        rehash(conn, at.chain)
    return f"{at} and the chain after it"


def rewrite_and_sign(conn, rng):
    """All chains and all checkpoints, signed with a key of the forger's."""
    what = edit_and_rehash(conn, rng)
    key, previous = Ed25519PrivateKey.generate(), None
    chains = {}
    heads = audit_seals.select_heads(conn, after=0, to=1 << 60)
    for row in audit_seals.select_checkpoints(conn, after=0, limit=10_000):
        moved = heads[row.number]
        chains |= {head.chain: head for head in moved}
        leaves = [audit_verifier.leaf(chains[name]) for name in sorted(chains)]
        body = json.loads(row.body) | {
            "previous": previous,
            "root": audit_verifier.root(leaves).hex(),
            "moved": audit_verifier.heads_hash(moved),
        }
        if rng.random() < 0.5:
            body["key"] = audit_verifier.public_key(key)
        text = audit_verifier.canonical(body).decode()
        previous = audit_verifier.body_hash(text)
        conn.execute(
            'UPDATE "AuditCheckpoint" SET "body" = %s, "signature" = %s WHERE "number" = %s',
            [text, audit_verifier.sign(key, text), row.number],
        )
    return what


def restore_old_dump(conn, rng):
    """Everything after a checkpoint is gone, and what is left fits together."""
    [last] = conn.execute('SELECT max("number") FROM "AuditCheckpoint"').fetchone()
    number = rng.randrange(1, last)
    conn.execute('DELETE FROM "AuditCheckpoint" WHERE "number" > %s', [number])
    conn.execute('DELETE FROM "AuditHead" WHERE "checkpoint" > %s', [number])
    conn.execute('DELETE FROM "AuditChain"')
    conn.execute(
        """INSERT INTO "AuditChain" SELECT DISTINCT ON ("chain") "chain", "seq", "hash"
           FROM "AuditHead" ORDER BY "chain", "checkpoint" DESC"""
    )
    conn.execute(
        """WITH gone AS (
               DELETE FROM "AuditSeal" s WHERE NOT EXISTS (
                   SELECT FROM "AuditChain" c WHERE c."chain" = s."chain" AND s."seq" <= c."seq")
               RETURNING s."auditId")
           DELETE FROM "AuditLog" a USING gone g WHERE a."id" = g."auditId" """
    )
    return f"as of checkpoint {number} of {last}"


def truncate(conn, rng):
    table = rng.choice(["AuditLog", "AuditSeal", "AuditHead", "AuditCheckpoint", "AuditChain"])
    conn.execute(f'TRUNCATE "{table}"')
    return table


def truncate_all(conn, rng):
    conn.execute('TRUNCATE "AuditLog", "AuditSeal", "AuditHead", "AuditCheckpoint", "AuditChain"')
    return "all"


def edit_seal(conn, rng):
    at = _any(conn, rng)
    conn.execute(
        'UPDATE "AuditSeal" SET "hash" = %s WHERE "auditId" = %s', [rng.randbytes(32), at.id]
    )
    return str(at)


def edit_end(conn, rng):
    at = _last(conn, rng)
    conn.execute(
        'UPDATE "AuditChain" SET "hash" = %s WHERE "chain" = %s', [rng.randbytes(32), at.chain]
    )
    return at.chain


def edit_checkpoint(conn, rng):
    [last] = conn.execute('SELECT max("number") FROM "AuditCheckpoint"').fetchone()
    number = rng.randint(1, last)
    [text] = conn.execute(
        'SELECT "body" FROM "AuditCheckpoint" WHERE "number" = %s', [number]
    ).fetchone()
    at = rng.randrange(len(text))
    changed = text[:at] + rng.choice("0123456789abcdef{}") + text[at + 1 :]
    if changed == text:
        changed = text[:-1]
    conn.execute('UPDATE "AuditCheckpoint" SET "body" = %s WHERE "number" = %s', [changed, number])
    return f"{number}, character {at}"


def delete_checkpoint(conn, rng):
    [last] = conn.execute('SELECT max("number") FROM "AuditCheckpoint"').fetchone()
    number = rng.randint(1, last)
    conn.execute('DELETE FROM "AuditCheckpoint" WHERE "number" = %s', [number])
    if rng.random() < 0.5:
        conn.execute('DELETE FROM "AuditHead" WHERE "checkpoint" = %s', [number])
    return str(number)


def skip_entries(conn, rng):
    """A new entry is never sealed, because the place of the sealer was moved."""
    conn.execute("""INSERT INTO "AuditLog" ("action", "resource", "xid") VALUES ('a', 'b', '2')""")
    return "an entry of the past"


TAMPERINGS: tuple[Tampering, ...] = (
    *(edit_field, empty_field, edit_time, delete_entry, delete_with_seal, delete_seal),
    *(swap_entries, swap_seals, move_to_tenant, insert_beside, insert_for_the_future),
    *(insert_sealed, edit_and_rehash, delete_and_rehash, rewrite_and_sign, restore_old_dump),
    *(truncate, truncate_all, edit_seal, edit_end, edit_checkpoint, delete_checkpoint),
    skip_entries,
)


def verify(conn, trusted, kept: list[KeptCheckpoint]) -> Verification:
    """Verify as the command does, in the transaction of the tampering."""
    found = audit_verification.verify_log(conn, trusted, kept=kept)
    found.judge_orphans(audit_walk.select_living(conn, found.orphans.keys()))
    return found


def kept_outside(conn, trusted) -> list[KeptCheckpoint]:
    """The newest checkpoint, as it is kept outside."""
    last = audit_seals.select_last_checkpoint(conn)
    heads = audit_seals.select_heads(conn, after=last.number - 1, to=last.number)
    line = audit_checkpoints.line(last, heads[last.number])
    return audit_checkpoints.read_kept([line], trusted, where="here")


def tamper(conn, trusted, kept, rng, tampering: Tampering) -> tuple[str, Verification]:
    """Tamper, verify and roll back. Returns what was done and what was found."""
    conn.execute("SAVEPOINT whole; SET LOCAL session_replication_role = replica")
    what = tampering(conn, rng)
    found = verify(conn, trusted, kept)
    conn.execute("ROLLBACK TO whole; RELEASE whole")
    return f"{tampering.__name__}: {what}", found


def main() -> int:
    """Tamper so many times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    rng, missed, done = random.Random(given.seed), [], Counter()
    with harness.world(tenants=0) as here, psycopg.connect(here.database_url) as conn:
        sealed_log.make_log()
        trusted = sealed_log.KEYS.trusted
        kept = kept_outside(conn, trusted)
        assert verify(conn, trusted, kept).ok, "the log is whole before"
        for _ in range(given.count):
            what, found = tamper(conn, trusted, kept, rng, rng.choice(TAMPERINGS))
            done[what.partition(":")[0]] += 1
            if found.ok:
                missed.append(what)
        assert verify(conn, trusted, kept).ok, "the log is whole after"
    for name, count in sorted(done.items()):
        print(f"{name:24} {count}")
    print(f"{given.count - len(missed)} of {given.count} found")
    for what in missed[:20]:
        print("missed:", what)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
