"""Uploads that are stored piece by piece, so that no process holds all their bytes."""

from typing import Final

from shared.db import Connection

INSERT_PIECE: Final = """
    INSERT INTO "Upload" ("id", "ingestKey", "sha256", "content")
    VALUES (%(staged)s || '/' || lpad(%(number)s::text, 6, '0'), %(staged)s, '', %(piece)b)
"""


def insert_piece(conn: Connection, staged: str, number: int, piece: bytes) -> None:
    """Store a piece of an upload, which `join_pieces` of the same transaction ends.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        staged: A name that no other upload has.
        number: Its place, from 0.
        piece: Its bytes.
    """
    conn.execute(INSERT_PIECE, {"staged": staged, "number": number, "piece": piece})


JOIN_PIECES: Final = """
    WITH pieces AS (
        DELETE FROM "Upload"
        WHERE "tenantId" = current_setting('app.tenant_id') AND "ingestKey" = %(staged)s
        RETURNING "id", "content"
    )
    INSERT INTO "Upload" ("ingestKey", "sha256", "content")
    SELECT %(key)s, %(sha256)s,
           coalesce(string_agg("content", ''::bytea ORDER BY "id" COLLATE "C"), ''::bytea)
    FROM pieces RETURNING "id"
"""


def join_pieces(conn: Connection, staged: str, ingest_key: str, sha256: str) -> str:
    """Make one upload of the pieces. Returns its id."""
    values = {"staged": staged, "key": ingest_key, "sha256": sha256}
    row = conn.execute(JOIN_PIECES, values).fetchone()
    assert row is not None, "INSERT .. RETURNING yields a row"
    return str(row[0])
