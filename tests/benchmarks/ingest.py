"""Ingest 2,000 documents, 20 MB, through producers, relay and workers, with a stub for OpenAI.

All CPU seconds count but the stub's: this client, workers, relay, Postgres and Valkey. The floor
of the same run is a straight line in one process: read, chunk, ask the stub, insert by unnest,
with no queue, no ledger, no full text and no row level security.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector

from producers.documents.submission import submit_document
from shared import db
from shared.ids import TenantId
from shared.models.providers.openai import OpenAIEmbedder
from shared.models.rate_limits import ProviderBucket
from shared.settings import read
from shared.text import tokens
from tests.benchmarks import corpus, harness
from tests.benchmarks.harness import Figure, World
from workers.domain.documents import chunking

TENANT = TenantId("t0")
MODEL = "text-embedding-3-small"
TOGETHER = 10  # documents a transaction, as a client with a folder at hand would send them
FLOOR_TEXTS = 256

_FLOOR_TABLES = """
    CREATE TABLE floor_document (id int PRIMARY KEY, content text NOT NULL);
    CREATE TABLE floor_chunk (
        document int NOT NULL REFERENCES floor_document, "index" int NOT NULL,
        content text NOT NULL, embedding vector(1536) NOT NULL, PRIMARY KEY (document, "index"));
"""
_FLOOR_STORE = """
    INSERT INTO floor_chunk SELECT * FROM
    unnest(%(documents)s::int[], %(indexes)s::int[], %(contents)s::text[], %(vectors)b::vector[])
"""


@dataclass(frozen=True)
class Run:
    """What one way took."""

    documents: int
    chunks: int
    wall_s: float
    cpu_s: dict[str, float]

    @property
    def per_cpu_s(self) -> float:
        return self.documents / sum(self.cpu_s.values())


def ingest(here: World, paths: list[Path]) -> tuple[Run, float]:
    """Submit the files and wait for their vectors. Returns the run and the largest worker in MB."""
    relay = here.start("relay", "tests.benchmarks.relay_role")
    workers = here.start("workers", "workers.process.supervisor", "--processes", "2")
    harness.until(lambda: here.sql(harness.WORKERS) == [(2,)], "workers")
    before, client, began = here.cpu_s(), time.process_time(), time.monotonic()
    for start in range(0, len(paths), TOGETHER):
        with db.transaction(TENANT) as conn:
            for path in paths[start : start + TOGETHER]:
                submit_document(conn, path.read_bytes(), source=path.name)
    harness.until(lambda: _all_done(here), "documents", every_s=0.25)
    wall_s, used = time.monotonic() - began, harness.spent(before, here.cpu_s())
    used["client"] = time.process_time() - client
    del used["stub"]
    largest_mb = max(map(_peak_mb, psutil.Process(workers.pid).children(recursive=True)))
    here.stop("workers", workers)
    here.stop("relay", relay)
    return Run(len(paths), _verified(here, len(paths)), wall_s, used), largest_mb


def straight_line(here: World, paths: list[Path]) -> Run:
    """The floor: the same texts, chunks and vectors, and nothing around them."""
    chosen = read({"OPENAI_BASE_URL": here.environment["OPENAI_BASE_URL"]})
    bucket = ProviderBucket(None, "floor", tokens_per_minute=1e12, requests_per_minute=1e9)
    embedder = OpenAIEmbedder(MODEL, chosen, bucket)
    chunks = 0
    with psycopg.connect(here.database_url, autocommit=True) as conn:
        conn.execute(_FLOOR_TABLES.encode())
        register_vector(conn)
        before, client, began = here.cpu_s(), time.process_time(), time.monotonic()
        waiting: list[tuple[int, int, str]] = []
        for number, path in enumerate(paths):
            text = path.read_text()
            conn.execute("INSERT INTO floor_document VALUES (%s, %s)", (number, text))
            pieces = chunking.chunk(
                text, tokens_max=512, count_many=tokens.count_many, kind="markdown"
            )
            waiting += [(number, piece.index, piece.content) for piece in pieces]
            if len(waiting) >= FLOOR_TEXTS or path is paths[-1]:
                chunks += len(waiting)
                _store_floor(conn, waiting, embedder.embed([text for _, _, text in waiting]))
                waiting = []
        used = harness.spent(before, here.cpu_s())
        used = {"client": time.process_time() - client, "postgres": used["postgres"]}
        return Run(len(paths), chunks, time.monotonic() - began, used)


def _store_floor(
    conn: psycopg.Connection, rows: list[tuple[int, int, str]], vectors: np.ndarray
) -> None:
    documents, indexes, contents = zip(*rows, strict=True)
    values = {
        "documents": list(documents),
        "indexes": list(indexes),
        "contents": list(contents),
        "vectors": [Vector(row) for row in vectors],
    }
    conn.execute(_FLOOR_STORE, values)


def _all_done(here: World) -> bool:
    [(done,)] = here.sql(
        'SELECT NOT EXISTS (SELECT FROM "JobOutbox") AND NOT EXISTS (SELECT FROM "JobFlight")'
    )
    return done


def _verified(here: World, documents: int) -> int:
    """The number of chunks, once it is sure that every one has its vector."""
    [(dead,)] = here.sql("""SELECT count(*) FROM "Job" WHERE "state" <> 'COMPLETED'""")
    with db.transaction(TENANT) as conn:
        rows = conn.execute(
            """SELECT (SELECT count(*) FROM "Document"), (SELECT count(*) FROM "DocumentChunk"),
                      (SELECT count(*) FROM "ChunkEmbedding"),
                      (SELECT count(*) FROM "ChunkVector")"""
        ).fetchone()
    assert rows is not None, "counts yield a row"
    assert (dead, rows[0]) == (0, documents), f"{dead} jobs failed, {rows[0]} documents"
    assert rows[1] == rows[2] == rows[3], f"chunks, vectors, search rows: {rows[1:]}"
    return rows[1]


def _peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0")
    return int(line.split()[1]) / 1024


def figures(run: Run, floor: Run, largest_mb: float, megabytes: float) -> list[Figure]:
    """The table's rows."""
    found = [
        Figure("corpus", megabytes, "MB"),
        Figure("documents", run.per_cpu_s, "/CPU-s", 150, 250, gates=True),
        Figure("chunks", run.chunks, ""),
        Figure("wall", run.wall_s, "s"),
        Figure("largest worker, at its peak", largest_mb, "MB", 250, at_most=True, gates=True),
    ]
    for name, one in (("ours", run), ("straight line", floor)):
        for kind, seconds in one.cpu_s.items():
            found.append(Figure(f"{name}: CPU of {kind}", 1e3 * seconds / one.chunks, "ms/chunk"))
    return [
        *found,
        Figure("straight line: documents", floor.per_cpu_s, "/CPU-s"),
        Figure("ours to straight line", run.per_cpu_s / floor.per_cpu_s, "x"),
    ]


def main() -> None:
    """Make the corpus, ingest it, walk the straight line, print the table."""
    parser = harness.options(__doc__)
    parser.add_argument("--documents", type=int, default=2_000)
    chosen: argparse.Namespace = parser.parse_args()
    with harness.world(
        AILYDIAN_OPENAI_TOKENS_PER_MINUTE=str(10**12),
        AILYDIAN_OPENAI_REQUESTS_PER_MINUTE="1000000000",
    ) as here:
        paths = corpus.write(here.home / "corpus", chosen.documents)
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        stub = here.start("stub", "tests.support.stub_openai")
        assert stub.stdout is not None
        here.environment["OPENAI_BASE_URL"] = stub.stdout.readline().strip()
        tokens.count("warm")
        run, largest_mb = ingest(here, paths)
        floor = straight_line(here, paths)
        here.stop("stub", stub)
    harness.report("ingest", figures(run, floor, largest_mb, megabytes), as_json=chosen.json)


if __name__ == "__main__":
    main()
