"""The demo's conversation: moderation, trust, quality and feedback, read back from Postgres."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from producers.cli.terminal.waiting import follow
from producers.judgement import explanations as explaining
from producers.judgement import feedback, moderation, provenance
from producers.messages import recall, submission
from producers.queries.messages import message_lists
from producers.queries.messages.message_lists import MessageRow
from shared import db
from shared.contract import Contract
from shared.contracts import AnalyseConversation, RecordMessage, RefreshTrust
from shared.errors import PermanentError
from shared.ids import JobId, MessageId, TenantId, UserId
from shared.ledger.outbox import publish
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.judgement import trust_scores, verdicts
from shared.servers import embedded
from shared.settings import settings

Say = Callable[[str], None]
Check = Callable[[], None]
LATER: Final = ("analyse_conversation",)
GOOD: Final = 0.5
ROUNDING: Final = 1e-6

QUESTION: Final = "How long are the backups of the database kept?"
ANSWER: Final = "Backups of the database are kept for thirty days."
THANKS: Final = "Çok teşekkür ederim, bu yanıt gerçekten çok yardımcı oldu."
LEAKED: Final = "Bu arada anahtarımız şu: sk-abcdefghijklmnopqrstuvwx"
ASKED_AGAIN: Final = "Veritabanı yedekleri ne kadar süre saklanıyor?"


class JudgementFailed(PermanentError):
    """A check of the demo's conversation failed."""

    code = "demo_judgement_failed"


@dataclass(frozen=True, slots=True)
class _Demo:
    """The tenant, user and conversation of the demo."""

    tenant_id: TenantId
    user_id: UserId
    check: Check
    say: Say

    def done(self, jobs: Sequence[JobId]) -> dict[JobId, dict[str, Any]]:
        """Wait for jobs and their follow-ups. Returns their outcomes."""
        outcomes = {}
        for job_id, family in follow(jobs, self.check, ignore=LATER):
            failed = [one for one in family if one.state != "COMPLETED"]
            if failed:
                raise JudgementFailed(f"{failed[0].job}: {failed[0].error or failed[0].state}.")
            outcomes[job_id] = family[0].outcome or {}
        return outcomes

    def do(self, job: Contract, *, key: str | None = None) -> dict[str, Any]:
        """Publish a job, wait for it, and return its outcome."""
        with db.transaction(self.tenant_id) as conn:
            job_id = publish(conn, job, key=key).id
        return self.done([job_id])[job_id]

    def message(self, message_id: str) -> MessageRow:
        """Return a message with its verdict and scores."""
        with db.transaction(self.tenant_id) as conn:
            row = message_lists.select_message(conn, MessageId(message_id))
        _claim(row is not None, f"the message {message_id} is stored")
        assert row is not None, "it was just recorded"
        return row

    def trust(self) -> float:
        """Return the current trust score of the demo's user."""
        self.do(RefreshTrust(day="demo"), key=f"demo {uuid.uuid4().hex}")
        with db.transaction(self.tenant_id) as conn:
            (row,) = trust_scores.select_trust(conn, self.user_id)
        return row.score


def run(tenant_id: TenantId, user_id: UserId, check: Check, say: Say) -> dict[str, Any]:
    """Record a conversation; moderate, appeal, rate, explain, verify and recall it.

    Raises:
        JudgementFailed: The database does not confirm one of the results.
    """
    demo = _Demo(tenant_id, user_id, check, say)
    say("\nA conversation is recorded and judged.")
    conversation, answer_id, thanks_id, leaked_id = _record(demo)
    moderated = _moderate(demo, thanks_id, leaked_id)
    rated = _rate(demo, answer_id)
    explained = _explain(demo, answer_id)
    _verify(demo, answer_id)
    found = recall.recall(tenant_id, ASKED_AGAIN, k=3, user_id=user_id)
    _claim(found[0].content in {QUESTION, ANSWER}, "the message is recalled by its meaning")
    say(f"  recall    {ASKED_AGAIN!r} finds {found[0].content!r}")
    analysis = _analyse(demo, conversation)
    return {
        "messages": 4,
        "moderation": moderated,
        "feedback": rated,
        "explanation": explained,
        "provenance": True,
        "recalled": True,
        "conversation": analysis,
    }


def _record(demo: _Demo) -> tuple[str, str, str, str]:
    own = {"user_id": demo.user_id}
    asked = RecordMessage(
        content=ANSWER, question=QUESTION, model=LOCAL_COMPLETER, external_id="demo-1", **own
    )
    with db.transaction(demo.tenant_id) as conn:
        first = submission.record(conn, asked).id
    outcome = demo.done([first])[first]
    own["conversation_id"] = outcome["conversationId"]
    with db.transaction(demo.tenant_id) as conn:
        ids = [
            submission.record(
                conn, RecordMessage(content=text, role="USER", external_id=f"demo-{text}", **own)
            ).id
            for text in (THANKS, LEAKED)
        ]
    outcomes = demo.done(ids)
    thanks_id, leaked_id = (outcomes[one]["messageId"] for one in ids)
    row = demo.message(outcome["messageId"])
    quality = row.quality or {}
    _claim(quality.get("estimated", 0) > GOOD, "the answer is scored as a good one")
    demo.say(f"  quality   {ANSWER!r}: {quality['estimated']:.2f}, intent {row.intent}")
    return str(outcome["conversationId"]), str(row.id), str(thanks_id), str(leaked_id)


def _moderate(demo: _Demo, thanks_id: str, leaked_id: str) -> dict[str, Any]:
    """Check that a secret is blocked and lowers trust, and that a granted appeal restores it."""
    clean, leaked = demo.message(thanks_id).moderation, demo.message(leaked_id).moderation
    assert clean is not None, "it was moderated"
    assert leaked is not None, "it was moderated"
    _claim(clean["action"] == "allow", "thanks pass")
    lowered = demo.trust()
    if leaked["action"] == "block":  # a second demo finds the appeal granted
        why = ", ".join(leaked["categories"])
        demo.say(f"  moderated {LEAKED[:24]!r}...: blocked, {why}; trust {lowered:.2f}")
        with db.transaction(demo.tenant_id) as conn:
            appeal = moderation.open_appeal(conn, leaked["id"], reason="The key is made up.")
            moderation.decide_appeal(conn, appeal, granted=True)
    with db.transaction(demo.tenant_id) as conn:
        latest = verdicts.select_latest(conn, action=None, limit=1_000)
    held = [one for one in latest if one.content_id == leaked_id]
    _claim([one.action for one in held] == ["allow"], "a granted appeal lets the message pass")
    _claim("pardoned" in held[0].scores, "the first verdict is kept")
    restored = demo.trust()
    demo.say(f"  appeal    granted: it passes, and trust is {restored:.2f}")
    return {"blocked": ["secret"], "pardoned": True, "trust": restored}


def _rate(demo: _Demo, answer_id: str) -> dict[str, Any]:
    with db.transaction(demo.tenant_id) as conn:
        given = feedback.give(conn, MessageId(answer_id), demo.user_id, rating=5)
    outcome = demo.done([given.id])[given.id]
    quality = demo.message(answer_id).quality or {}
    _claim(quality.get("actual") == 1.0, "five stars are an actual score of 1")
    _claim(outcome["examples"] >= 1, "a good answer teaches")
    demo.say(f"  feedback  5 of 5: actual score 1.0, {outcome['examples']} training example")
    return {"actual": 1.0, "examples": outcome["examples"]}


def _explain(demo: _Demo, answer_id: str) -> dict[str, Any]:
    with db.transaction(demo.tenant_id) as conn:
        jobs = explaining.explain(conn, answer_id, ("quality",))
    found = demo.done([jobs["quality"].id])[jobs["quality"].id]
    total = sum(found["values"].values())
    _claim(abs(total - (found["score"] - found["base"])) < ROUNDING, "the explanation adds up")
    best = sorted(found["values"].items(), key=lambda pair: -abs(pair[1]))[:3]
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in best)
    demo.say(f"  explained {found['score']:.2f} = {found['base']:.2f} {parts}, ...")
    return {"base": found["base"], "score": found["score"], "values": found["values"]}


def _verify(demo: _Demo, answer_id: str) -> None:
    key = embedded.signing_key(settings())
    with db.transaction(demo.tenant_id) as conn:
        report = provenance.verify(conn, key, MessageId(answer_id))
    _claim(report.ok, f"the answer is as it was recorded: {report.findings}")
    demo.say("  verified  answer, question and model are as they were recorded")


def _analyse(demo: _Demo, conversation: str) -> dict[str, Any]:
    demo.do(AnalyseConversation(conversation_id=conversation), key=f"demo {uuid.uuid4().hex}")
    with db.transaction(demo.tenant_id) as conn:
        rows = message_lists.select_conversations(conn, demo.user_id, limit=100)
    (row,) = (one for one in rows if one.id == conversation)
    _claim(row.sentiment is not None and row.sentiment > 0, "thanks are a good mood")
    demo.say(f"  analysed  topic {row.topic}, sentiment {row.sentiment:+.2f}, tags {row.tags}")
    return {"topic": row.topic, "sentiment": row.sentiment, "tags": row.tags}


def _claim(is_so: bool, what: str) -> None:
    if not is_so:
        raise JudgementFailed(f"Check failed: {what}.")
