"""What a recorded message costs, with all that follows from it, the models apart.

Pairs of question and answer are published together and done as workers do them: claimed, and
handed to their actors in batches, until nothing follows any more. The CPU counted is that of this
process and of Postgres; what the embedder and the classifier took of it is measured and shown
beside it. Recall is asked at the end, over all that was recorded.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from producers.messages import recall, submission
from shared import db
from shared.contracts import RecordMessage, contract_named
from shared.db import Role
from shared.ids import TenantId, UserId
from shared.judgement import intents
from shared.ledger.outbox import Lease
from shared.models import providers
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.ledger import outbox
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure
from tests.support.factories import read_job, wake
from workers.actors import embedding, moderation, scoring
from workers.judgement import toxicity

TENANT, USER = TenantId("t0"), UserId("u0")
TOGETHER = 500
ACTORS = {
    "record_message": scoring.record_message,
    "embed_messages": embedding.embed_messages,
    "moderate_content": moderation.moderate_content,
    "score_quality": scoring.score_quality,
    "analyse_conversation": scoring.analyse_conversation,
    "update_trust": scoring.update_trust,
}


class Stopwatch:
    """CPU seconds that functions take, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.process_time() - began

        return timed


def models(watch: Stopwatch) -> None:
    """Load the models and put the stopwatch around them."""
    intents.intent_of("warm")
    toxicity.probabilities(["warm"])
    embedder: Any = providers.embedder()
    embedder.embed = watch.around(embedder.embed)
    toxicity.probabilities = watch.around(toxicity.probabilities)


def publish(pairs: int, conversations: int) -> None:
    """Begin conversations and publish pairs in them, some hundred in a transaction."""
    with db.transaction(TENANT) as conn:
        conn.execute(
            """INSERT INTO "User" ("id", "email", "passwordHash", "tenantId")
               VALUES (%(user)s, 'u0@example.org', '', %(tenant)s)""",
            {"user": USER, "tenant": TENANT},
        )
        conn.execute(
            """INSERT INTO "Conversation" ("id", "userId")
               SELECT 'c' || n, %(user)s FROM generate_series(1, %(count)s) n""",
            {"user": USER, "count": conversations},
        )
    made = [
        RecordMessage(
            content=f"The order {n} was sent on Monday and arrives within three days.",
            question=f"Siparişim {n} ne zaman gelecek, kargoya verildi mi?",
            model=LOCAL_COMPLETER,
            user_id=USER,
            conversation_id=f"c{n % conversations + 1}",
        )
        for n in range(pairs)
    ]
    for start in range(0, pairs, TOGETHER):
        with db.transaction(TENANT) as conn:
            submission.record_many(conn, made[start : start + TOGETHER])


def work() -> dict[str, int]:
    """Do all that waits, and what follows, in batches. Returns how many jobs of each kind."""
    done: dict[str, int] = defaultdict(int)
    while leases := claimed():
        by_kind = defaultdict(list)
        for lease in leases:
            by_kind[lease.job].append(lease)
        for kind, several in by_kind.items():
            size = contract_named(kind).batch_max
            for start in range(0, len(several), size):
                batch = several[start : start + size]
                ACTORS[kind]([(read_job(lease), lease) for lease in batch])
            done[kind] += len(several)
    return dict(done)


def claimed() -> list[Lease]:
    """What the relay wakes up now, claimed; what is due later, the analyses, is due now."""
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "JobOutbox" SET "dueAt" = now() WHERE "dueAt" > now()""")
        wake(conn)
        sent = conn.execute('SELECT "jobId", "attempt" FROM "JobFlight"').fetchall()
        return [Lease(*row) for row in outbox.claim(conn, sent, worker="w", lease_s=60.0)]


def main() -> None:
    """Record pairs, with all that follows, and ask for some of them again."""
    parser = harness.options(__doc__)
    parser.add_argument("--pairs", type=int, default=1_000)
    chosen = parser.parse_args()
    watch = Stopwatch()
    with harness.world() as here:
        models(watch)
        before, began = here.cpu_s()["postgres"], time.process_time()
        publish(chosen.pairs, conversations=max(chosen.pairs // 10, 1))
        done = work()
        mine = time.process_time() - began
        theirs = here.cpu_s()["postgres"] - before
        recalled = []
        for n in range(50):
            at = time.process_time()
            recall.recall(TENANT, f"Where is my order {n}?", k=10)
            recalled.append(time.process_time() - at)
        count = 2 * chosen.pairs
        each = 1e3 * (mine + theirs - watch.seconds) / count
        figures = [
            Figure("message with all that follows", each, "ms CPU", bar=3.0, at_most=True),
            Figure("  of it actors", 1e3 * (mine - watch.seconds) / count, "ms CPU"),
            Figure("  of it Postgres", 1e3 * theirs / count, "ms CPU"),
            Figure("models beside it", 1e3 * watch.seconds / count, "ms CPU"),
            Figure("jobs for each message", sum(done.values()) / count, ""),
            Figure(f"recall over {count:,}, median", 1e3 * sorted(recalled)[25], "ms CPU"),
        ]
        harness.report(f"{count:,} messages, two a job", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
