"""Ids are in the order of time, on every Postgres that is promised."""

import time
import uuid

from shared import db
from shared.db import Role


def test_later_ids_are_larger_and_name_their_time(pool):
    before_ms = int(time.time() * 1_000)
    with db.transaction(None, role=Role.RELAY) as conn:
        ids = [
            row
            for _ in range(3)
            for (row,) in conn.execute("SELECT ailydian_new_id() FROM generate_series(1, 1000)")
        ]
    after_ms = int(time.time() * 1_000)

    assert ids == sorted(ids)
    assert len(set(ids)) == 3_000
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}
    assert before_ms - 1 <= int(ids[0][:8] + ids[0][9:13], 16) <= after_ms + 1
