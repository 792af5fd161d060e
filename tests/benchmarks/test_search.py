"""What the search tables cost Postgres: an insert with search live, and one question."""

import os
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pgvector import Bit, HalfVector
from pgvector.psycopg import register_vector

from shared import db
from shared.documents import quantization
from shared.ids import TenantId
from shared.queries.documents import retrieval
from shared.queries.documents.retrieval import SearchQuestion
from tests.retrieval import evaluate
from tests.retrieval.passages import Passage, demo_passages

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1_800)]

ACME = TenantId("acme")
MODEL = "m@1"
ROWS = 10_000
BATCH = 64
INSERT_MS_MAX = 0.5  # a chunk, vectors
WORDS_MS_MAX = 1.0  # a chunk of 2,000 characters, to_tsvector included: most of it
NEAREST_US_MAX = 1.0  # a row of the tenant
TEXT_MS_MAX = 60.0


class Backend:
    """Counts the CPU seconds of one connection's server process."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._stat = Path(f"/proc/{conn.info.backend_pid}/stat")

    def cpu_s(self) -> float:
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def conn(database_url, pool):
    with psycopg.connect(database_url, autocommit=True) as conn:
        register_vector(conn)
        evaluate.add_tenant(conn, ACME)
        yield conn


def add_chunks(conn, count):
    conn.execute(
        """INSERT INTO "Document" ("id", "tenantId", "title", "content")
           VALUES ('d', 'acme', 'd', 'd')"""
    )
    conn.execute(
        """INSERT INTO "DocumentChunk" ("id", "documentId", "content", "chunkIndex")
           SELECT 'c' || n, 'd', 'c', n FROM generate_series(0, %s - 1) AS n""",
        [count],
    )


def vectors(count):
    rng = np.random.Generator(np.random.PCG64(5))
    rows = rng.standard_normal((count, 1536)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vectors_are_inserted_and_scanned_within_their_budgets(conn):
    add_chunks(conn, ROWS)
    rows, backend = vectors(ROWS), Backend(conn)
    packed = quantization.bits(rows)

    before = backend.cpu_s()
    for start in range(0, ROWS, BATCH):
        some = range(start, min(start + BATCH, ROWS))
        conn.execute(
            """INSERT INTO "ChunkVector"
               SELECT 'acme', %s, * FROM unnest(%s::text[], %s::text[], %b::bit(1536)[],
                   %b::halfvec[])""",
            [
                MODEL,
                [f"c{n}" for n in some],
                ["d"] * len(some),
                [Bit(packed[n].tobytes()) for n in some],
                [HalfVector(rows[n]) for n in some],
            ],
        )
    insert_ms = (backend.cpu_s() - before) * 1000 / ROWS
    conn.execute('VACUUM ANALYZE "ChunkVector"')
    with db.transaction(ACME) as inside:
        backend = Backend(inside)
        before = backend.cpu_s()
        for n in range(50):
            question = SearchQuestion([], "en", MODEL, rows[n], packed[n])
            retrieval.select_nearest(inside, ACME, question, scanned=200, hits_max=100)
        nearest_us = (backend.cpu_s() - before) * 1e6 / 50 / ROWS

    print(f"\nvectors: insert {insert_ms:.3f} ms a chunk, nearest {nearest_us:.2f} us a row")
    assert insert_ms <= INSERT_MS_MAX
    assert nearest_us <= NEAREST_US_MAX


def test_words_are_inserted_and_searched_within_their_budgets(conn):
    pieces = [passage.text for language in ("tr", "en") for passage in demo_passages(language)]
    words = " ".join(pieces).split()
    rng = np.random.Generator(np.random.PCG64(6))
    texts = [" ".join(rng.choice(words, 270)) for _ in range(ROWS // 4)]
    passages = [Passage(f"p{n}", text, "tr" if n % 2 else "en") for n, text in enumerate(texts)]
    evaluate.add_passages(conn, ACME, passages)
    backend = Backend(conn)

    conn.execute('DELETE FROM "ChunkText"')
    before = backend.cpu_s()
    for language in ("tr", "en"):
        conn.execute(
            """INSERT INTO "ChunkText"
               SELECT 'acme', c."id", c."id", d."language",
                      ailydian_words(d."language", '', c."content")
               FROM "DocumentChunk" c JOIN "Document" d ON d."id" = c."documentId"
               WHERE d."language" = %s""",
            [language],
        )
    words_ms = (backend.cpu_s() - before) * 1000 / len(passages)
    conn.execute('VACUUM ANALYZE "ChunkText"')
    with db.transaction(ACME) as inside:
        backend = Backend(inside)
        before, started = backend.cpu_s(), time.perf_counter()
        for n in range(20):
            asked = SearchQuestion(texts[n].split()[:10], "en", "", vectors(1)[0], np.zeros(192))
            retrieval.select_by_words(inside, asked, hits_max=100)
        text_ms = (backend.cpu_s() - before) * 1000 / 20
        wall_ms = (time.perf_counter() - started) * 1000 / 20

    print(f"\nwords: insert {words_ms:.3f} ms a chunk, question {text_ms:.1f} ms ({wall_ms:.1f})")
    assert words_ms <= WORDS_MS_MAX
    assert text_ms <= TEXT_MS_MAX
