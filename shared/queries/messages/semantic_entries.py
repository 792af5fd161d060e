"""The semantic cache: stored answers, the documents they cite, and their invalidation."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pgvector import Bit, Vector
from psycopg.types.json import Jsonb

from shared.db import Connection
from shared.ids import DocumentId, TenantId


@dataclass(frozen=True, slots=True)
class Key:
    """The key of an entry.

    Attributes:
        query_hash: Of all that an answer depends on, the tenant with it; hex, unique.
        scope: Of all but the question; hex. Entries of one scope are compared by similarity.
        guard: Of the features that must be equal in two questions; hex.
    """

    tenant_id: TenantId
    query_hash: str
    scope: str
    guard: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached answer.

    Attributes:
        cost_usd: Its original cost; None where no price was known.
        is_exact: Whether it answered exactly the question of the key.
    """

    id: str
    question: str
    response: str
    model: str
    citations: list[dict[str, Any]]
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal | None
    is_exact: bool


# The one statement of a hit: it confirms that the entry stands, counts the hit and reads it. An
# entry found by its id (which Redis named) must be of the same scope and guard. The empty strings
# and the difference keep other indexes out of it, which would find rows to throw away.
TOUCH: Final = """
    WITH found AS MATERIALIZED (
        SELECT coalesce((SELECT h."id" FROM "SemanticCache" h
                         WHERE h."queryHash" = %(query_hash)s), %(entry_id)s::text) AS "id"
    )
    UPDATE "SemanticCache" s
    SET "hitCount" = s."hitCount" + 1, "lastAccessedAt" = now() AT TIME ZONE 'UTC'
    FROM found f
    WHERE s."id" = f."id" AND s."tenantId" || '' = %(tenant_id)s
      AND (s."queryHash" || '' = %(query_hash)s
           OR (s."scope" || '' = %(scope)s AND s."guard" || '' = %(guard)s))
      AND s."expiresAt" - now() AT TIME ZONE 'UTC' > interval '0'
    RETURNING s."id", coalesce(s."question", '') AS "question", s."response",
              s."modelId" AS "model",
              coalesce(s."citations", '[]') AS "citations", coalesce(s."tokensIn", 0) AS "tokensIn",
              coalesce(s."tokensOut", 0) AS "tokensOut",
              s."costUsd", s."queryHash" = %(query_hash)s AS "isExact"
"""


def touch(conn: Connection, key: Key, entry_id: str | None = None) -> Entry | None:
    """Count a hit and return the entry of this hash, else the one of this id, if still valid."""
    values: dict[str, object] = {
        "tenant_id": key.tenant_id,
        "query_hash": key.query_hash,
        "scope": key.scope,
        "guard": key.guard,
        "entry_id": entry_id,
    }
    row = conn.execute(TOUCH, values).fetchone()
    return None if row is None else Entry(*row)


SELECT_QUESTION: Final = """
    SELECT coalesce(s."question", '') FROM "SemanticCache" s
    WHERE s."id" = %(entry_id)s AND s."tenantId" || '' = %(tenant_id)s
      AND s."scope" || '' = %(scope)s AND s."guard" || '' = %(guard)s
      AND s."expiresAt" - now() AT TIME ZONE 'UTC' > interval '0'
"""


def select_question(conn: Connection, key: Key, entry_id: str) -> str | None:
    """Return the question of an entry of the key's scope and guard, if still valid."""
    values: dict[str, object] = {
        "tenant_id": key.tenant_id,
        "scope": key.scope,
        "guard": key.guard,
        "entry_id": entry_id,
    }
    row = conn.execute(SELECT_QUESTION, values).fetchone()
    return None if row is None else str(row[0])


# The guard's index leaves few rows: questions of the same words. Their bits are compared, and the
# vectors of the nearest alone are fetched from where they lie out of line.
SELECT_NEAR: Final = """
    SELECT n."id", n."question",
           1 - (n."queryEmbedding" <=> %(vector)b::vector(1536)) AS "cosine" FROM (
        SELECT a."id", a."question", a."queryEmbedding" FROM (
            SELECT "id", "question", "queryEmbedding", "bits" FROM "SemanticCache"
            WHERE "tenantId" = %(tenant_id)s AND "scope" = %(scope)s AND "guard" = %(guard)s
              AND "bits" IS NOT NULL AND "expiresAt" - now() AT TIME ZONE 'UTC' > interval '0'
            LIMIT %(alike_max)s
        ) a
        ORDER BY a."bits" <~> %(bits)b::bit(1536) LIMIT %(limit)s OFFSET 0
    ) n
    ORDER BY 3 DESC, 1
"""
ALIKE_MAX: Final = 250
_NEAR: Final = 8  # taken by bits before the cosine decides


@dataclass(frozen=True, slots=True)
class Near:
    """An entry whose question is near to another; cosine in [-1, 1]."""

    id: str
    question: str
    cosine: float


def select_near(
    conn: Connection, key: Key, vector: NDArray[np.float32], bits: NDArray[np.uint8]
) -> list[Near]:
    """Return the entries of a scope and guard that are nearest to a question, best first.

    Args:
        conn: Inside a transaction of the tenant.
        key: Its scope and guard are used.
        vector: Shape (1536,), float32.
        bits: Shape (192,), uint8: the signs of the rotated vector.

    Returns:
        At most 8, of 250 at most that are compared.
    """
    values: dict[str, object] = {
        "tenant_id": key.tenant_id,
        "scope": key.scope,
        "guard": key.guard,
        "vector": Vector(vector),
        "bits": Bit(bits.tobytes()),
        "alike_max": ALIKE_MAX,
        "limit": _NEAR,
    }
    return [Near(*row) for row in conn.execute(SELECT_NEAR, values)]


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer was given: its chunk, document, and the SHA-256 of its words."""

    chunk_id: str
    document_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An answer to store; without a vector it is found by its hash alone."""

    key: Key
    question: str
    vector: NDArray[np.float32] | None
    bits: NDArray[np.uint8] | None
    response: str
    model: str
    citations: Sequence[dict[str, Any]]
    tokens: tuple[int, int]
    cost_usd: Decimal | None
    sources: Sequence[Source]
    ttl_s: float


# Documents come first in every order of locks, then entries: a document that is being changed is
# waited for, and one that is about to be finds the entry when its trigger removes what cites it.
LOCK_DOCUMENTS: Final = """
    SELECT FROM "Document" WHERE "id" = ANY(%(ids)s::text[]) ORDER BY "id" FOR SHARE
"""

STORE: Final = """
    WITH given AS (
        SELECT * FROM unnest(%(chunk_ids)s::text[], %(document_ids)s::text[], %(digests)s::text[])
            AS g("chunkId", "documentId", "sha256")
    ), made AS (
        INSERT INTO "SemanticCache" AS s
            ("tenantId", "queryHash", "scope", "guard", "question", "queryEmbedding", "bits",
             "response", "modelId", "citations", "tokensIn", "tokensOut", "costUsd", "expiresAt")
        SELECT %(tenant_id)s, %(query_hash)s, %(scope)s, %(guard)s, %(question)s,
               %(vector)b::vector(1536), %(bits)b::bit(1536), %(response)s, %(model)s,
               %(citations)s::jsonb, %(tokens_in)s, %(tokens_out)s, %(cost_usd)s,
               now() AT TIME ZONE 'UTC' + %(ttl_s)s::float8 * interval '1 second'
        WHERE NOT EXISTS (
            SELECT FROM given g WHERE NOT EXISTS (
                SELECT FROM "DocumentChunk" c
                WHERE c."id" = g."chunkId" AND c."documentId" = g."documentId"
                  AND encode(sha256(convert_to(c."content", 'UTF8')), 'hex') = g."sha256"))
        ON CONFLICT ("queryHash") DO UPDATE
        SET "response" = excluded."response", "citations" = excluded."citations",
            "queryEmbedding" = excluded."queryEmbedding", "bits" = excluded."bits",
            "tokensIn" = excluded."tokensIn", "tokensOut" = excluded."tokensOut",
            "costUsd" = excluded."costUsd", "expiresAt" = excluded."expiresAt",
            "scope" = excluded."scope", "guard" = excluded."guard"
        RETURNING s."id"
    ), cited AS (
        INSERT INTO "CacheSource" ("tenantId", "entryId", "documentId")
        SELECT DISTINCT %(tenant_id)s, m."id", g."documentId" FROM made m CROSS JOIN given g
        ON CONFLICT DO NOTHING
    )
    SELECT "id" FROM made
"""


def store(conn: Connection, new: NewEntry) -> str | None:
    """Store an answer, or renew the one of its hash.

    Returns:
        The entry's id; None if a passage has changed since the answer was computed, or never was a
        document's.
    """
    key, sources = new.key, new.sources
    conn.execute(LOCK_DOCUMENTS, {"ids": sorted({each.document_id for each in sources})})
    vector = np.zeros(1536, dtype=np.float32) if new.vector is None else new.vector
    values: dict[str, object] = {
        "tenant_id": key.tenant_id,
        "query_hash": key.query_hash,
        "scope": key.scope,
        "guard": key.guard,
        "question": new.question,
        "vector": Vector(vector),
        "bits": None if new.bits is None else Bit(new.bits.tobytes()),
        "response": new.response,
        "model": new.model,
        "citations": Jsonb(list(new.citations)),
        "tokens_in": new.tokens[0],
        "tokens_out": new.tokens[1],
        "cost_usd": new.cost_usd,
        "ttl_s": new.ttl_s,
        "chunk_ids": [each.chunk_id for each in sources],
        "document_ids": [each.document_id for each in sources],
        "digests": [each.sha256 for each in sources],
    }
    row = conn.execute(STORE, values).fetchone()
    return None if row is None else str(row[0])


FORGET_DOCUMENTS: Final = """
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT "entryId" FROM "CacheSource"
        WHERE "tenantId" = current_setting('app.tenant_id')
          AND "documentId" = ANY(%(ids)s::text[]))
"""


def forget_documents(conn: Connection, document_ids: Sequence[DocumentId]) -> int:
    """Delete answers that cite these documents, such as blocked ones. Returns how many."""
    return conn.execute(FORGET_DOCUMENTS, {"ids": list(document_ids)}).rowcount


FORGET_ANSWERS: Final = """
    DELETE FROM "SemanticCache"
    WHERE "tenantId" = current_setting('app.tenant_id')
      AND md5("response") = ANY(SELECT md5(r) FROM unnest(%(responses)s::text[]) r)
      AND "response" = ANY(%(responses)s::text[])
"""


def forget_answers(conn: Connection, responses: Sequence[str]) -> int:
    """Delete answers by their text, such as that of a blocked message. Returns how many."""
    return conn.execute(FORGET_ANSWERS, {"responses": list(responses)}).rowcount


CLEAR: Final = """
    DELETE FROM "SemanticCache" WHERE "tenantId" = current_setting('app.tenant_id')
"""


def clear(conn: Connection) -> int:
    """Delete all of the tenant's answers. Returns how many."""
    return conn.execute(CLEAR).rowcount


PRUNE_EXPIRED: Final = """
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT "id" FROM "SemanticCache"
        WHERE "tenantId" = current_setting('app.tenant_id')
          AND "expiresAt" <= now() AT TIME ZONE 'UTC'
        LIMIT %(limit)s)
"""

PRUNE_UNUSED: Final = """
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT "id" FROM "SemanticCache" WHERE "tenantId" = current_setting('app.tenant_id')
        ORDER BY "lastAccessedAt" DESC, "id" OFFSET %(entries_max)s LIMIT %(limit)s)
"""


def prune(conn: Connection, *, entries_max: int, limit: int) -> int:
    """Delete expired entries, then the least recently used ones above `entries_max`.

    Returns:
        How many were removed; at most `limit` for each of the two reasons.
    """
    expired = conn.execute(PRUNE_EXPIRED, {"limit": limit}).rowcount
    values = {"entries_max": entries_max, "limit": limit}
    return expired + conn.execute(PRUNE_UNUSED, values).rowcount


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """Figures of a tenant's cache for a model: its entries and their savings so far.

    Attributes:
        cost_usd: Of the entries that had a price; None where none had. So is `saved_usd`.
        unpriced: Entries that had none, because the catalogue did not know the model.
    """

    model: str
    entries: int
    expired: int
    hits: int
    cost_usd: Decimal | None
    saved_usd: Decimal | None
    unpriced: int


SELECT_FIGURES: Final = """
    SELECT "modelId" AS "model", count(*) AS "entries",
           count(*) FILTER (WHERE "expiresAt" <= now() AT TIME ZONE 'UTC') AS "expired",
           coalesce(sum("hitCount"), 0) AS "hits", sum("costUsd") AS "costUsd",
           sum("hitCount" * "costUsd") AS "savedUsd",
           count(*) FILTER (WHERE "costUsd" IS NULL) AS "unpriced"
    FROM "SemanticCache" WHERE "tenantId" = current_setting('app.tenant_id')
    GROUP BY "modelId" ORDER BY "modelId"
"""


def select_figures(conn: Connection) -> list[CacheFigures]:
    """Figures of the tenant's entries that are still kept, a row a model."""
    return [CacheFigures(*row) for row in conn.execute(SELECT_FIGURES)]
