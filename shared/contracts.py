"""All contracts: every job that crosses the wire.

A contract is the whole promise between publisher and worker: name, queue, fields, limits. Defining
the class registers it, under its own name in snake case. Its fields name the fact that caused the
job, so they make the idempotency key. To change one in a way old rows do not fit, raise
`schema_version` and give `upcasts` the step from the version before.
"""

import hashlib
import unicodedata
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.contract import (
    CONTRACTS,
    QUEUES,
    Audience,
    Contract,
    Daily,
    Sha256,
    Text,
    Upcast,
    contract_named,
    register,
)
from shared.ids import ChunkId, DocumentId, MessageId, RunId, UserId

__all__ = ["CONTRACTS", "QUEUES", "Contract", "Upcast", "contract_named", "register"]


# The first words of what our own entries of the audit log have as their actor.
RESERVED_ACTORS = frozenset(
    {"cli", "door", "key", "operator", "platform", "relay", "schedule", "scheduler", "service"}
    | {"system", "user", "worker", "workflow"}
)


class IngestDocument(Contract, queue="ingest"):
    """Turn an upload, or a row the platform wrote, into a document with its chunks."""

    time_limit_s: ClassVar[int] = 120
    content_sha256: Sha256
    source: Text | None = None
    title: Text | None = None
    upload_id: str | None = None
    document_id: DocumentId | None = None
    lossy: bool = False
    replaces_version: Annotated[int, Field(ge=0)] = 0

    def key(self) -> str:
        """The same bytes over the same version of the same document are one piece of work."""
        named = self.source or self.document_id or ""
        fact = f"{named}\n{self.content_sha256}\n{self.replaces_version}\n{self.lossy}"
        return hashlib.sha256(fact.encode()).hexdigest()

    @staticmethod
    def ingest_key(source: str | None, content_sha256: str) -> str:
        """The identity of a document: its source if it has one, else its bytes."""
        return f"sha256:{content_sha256}" if source is None else f"source:{source}"


class FetchDocument(Contract, queue="ingest"):
    """Fetch a document from a URL, which identifies it, and ingest it as `IngestDocument` does."""

    audience: ClassVar[Audience] = "operators"
    time_limit_s: ClassVar[int] = 180
    url: Text
    title: Text | None = None
    lossy: bool = False
    request_id: Text  # what is asked for again is fetched again


class EmbedChunks(Contract, queue="embedding"):
    """Embed chunks that have no vector of a model; several jobs are done at once."""

    audience: ClassVar[Audience] = "operators"
    time_limit_s: ClassVar[int] = 300
    batch_max: ClassVar[int] = 16
    document_id: DocumentId
    chunk_ids: Annotated[list[ChunkId], Field(min_length=1, max_length=64)]
    model: Text


class EmbedMessages(Contract, queue="embedding"):
    """Embed messages that the platform recorded."""

    audience: ClassVar[Audience] = "operators"
    time_limit_s: ClassVar[int] = 300
    batch_max: ClassVar[int] = 16
    message_ids: Annotated[list[MessageId], Field(min_length=1, max_length=64)]
    model: Text
    changed_at: str = ""  # an edited message is another fact


class Citation(BaseModel):
    """A passage that an answer rests on: offsets within its chunk."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    chunk_id: Annotated[ChunkId, Field(alias="chunkId")]
    document_id: Annotated[DocumentId, Field(alias="documentId")]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]


class RecordMessage(Contract, queue="scoring"):
    """Record a message, and for an answer its question and citations.

    Without `conversation_id` a conversation is created: of `user_id` or of the tenant's first user.
    Missing token counts are computed, a missing cost is the model's price for them.
    `external_id` identifies the message where equal texts may occur twice.
    """

    batch_max: ClassVar[int] = 50
    content: Annotated[str, Field(min_length=1, max_length=50_000)]
    role: Literal["USER", "ASSISTANT", "SYSTEM", "TOOL"] = "ASSISTANT"
    model: Text | None = None
    question: Annotated[str, Field(max_length=50_000)] = ""
    conversation_id: str | None = None
    user_id: UserId | None = None
    citations: list[Citation] = Field(default_factory=list, max_length=100)
    cost_usd: Annotated[str | None, Field(pattern=r"^\d{1,12}(\.\d{1,8})?$")] = None
    tokens_in: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    tokens_out: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    latency_ms: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    intent: Text | None = None
    external_id: Text | None = None
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    judge: bool = True

    @model_validator(mode="after")
    def _answers_have_a_model(self) -> "RecordMessage":
        if self.role == "ASSISTANT" and self.model is None:
            raise ValueError("an answer must name its model")
        if self.role != "ASSISTANT" and (self.question or self.citations):
            raise ValueError("only an answer may have a question and citations")
        return self

    def limit_key(self) -> str:
        """Limits count the messages of one person together."""
        return self.user_id or ""

    def cost(self) -> int:
        """Less trusted users cost more, by `shared.judgement.trust.rate_weight`."""
        return self.weight


class ModerateContent(Contract, queue="moderation"):
    """Moderate a document, a message or a comment."""

    batch_max: ClassVar[int] = 32
    content_type: Literal["document", "message", "feedback"]
    content_id: Text
    content_sha256: Sha256 | None = None  # of the judged text: another text is another fact
    policy_version: Annotated[int, Field(ge=0)] = (
        0  # with its time of writing, the reason to judge again
    )
    changed_at: str = ""


class RemoderateContent(Contract, queue="moderation"):
    """Request moderation of everything judged under an older policy, page after page."""

    audience: ClassVar[Audience] = "operators"
    policy_version: Annotated[int, Field(ge=1)]
    after: str = ""


class ScoreQuality(Contract, queue="scoring"):
    """Estimate how good a recorded answer is."""

    audience: ClassVar[Audience] = "operators"
    batch_max: ClassVar[int] = 16
    message_id: MessageId
    question: Annotated[str, Field(max_length=50_000)] = ""
    chunk_ids: list[ChunkId] = Field(default_factory=list, max_length=100)
    changed_at: str = ""


class CalibrateQuality(Daily, queue="scoring"):
    """Calibrate estimates of quality by the ratings."""

    audience: ClassVar[Audience] = "operators"


class ApplyFeedback(Contract, queue="scoring"):
    """Apply the ratings of a message to its score, its model, its author's trust, and training."""

    audience: ClassVar[Audience] = "system"
    message_id: MessageId
    feedback_id: str
    changed_at: Text


class AnalyseConversation(Contract, queue="scoring"):
    """Find a conversation's sentiment, topic and tags; many messages share one analysis."""

    audience: ClassVar[Audience] = "operators"
    batch_max: ClassVar[int] = 16
    delay_s: ClassVar[float] = 20.0  # after the first message that requests it
    conversation_id: Text
    analysis: Annotated[int, Field(ge=0)] = 0


class UpdateTrust(Contract, queue="scoring"):
    """Record evidence for or against a person; later evidence of the same source replaces it."""

    audience: ClassVar[Audience] = "system"
    batch_max: ClassVar[int] = 64
    user_id: UserId
    kind: Literal["moderation", "feedback", "appeal", "session", "payment"]
    source_id: Text
    value: Annotated[float, Field(ge=-1.0, le=1.0)]
    occurred_at: AwareDatetime
    revision: AwareDatetime
    withdrawn: bool = False


class RefreshTrust(Daily, queue="scoring"):
    """Recompute the trust of every person, because it changes with time alone."""

    audience: ClassVar[Audience] = "operators"
    after: str = ""


class RefreshRouting(Daily, queue="scoring"):
    """Compute how well each model serves each intent."""

    audience: ClassVar[Audience] = "operators"


class ExplainScore(Contract, queue="scoring"):
    """Explain a score by its parts."""

    audience: ClassVar[Audience] = "operators"
    subject: Literal["quality", "moderation", "trust", "routing"]
    subject_id: Text
    revision: Text = "1"  # another value explains it again


class AppendAudit(Contract, queue="audit"):
    """Write an audit log entry, for callers that have no open transaction."""

    action: Text
    resource: Text
    actor: Text
    resource_id: Text | None = None
    what: dict[str, Any] = Field(default_factory=dict)
    ip_address: Text | None = None
    user_agent: Text | None = None
    entry_id: Text  # identifies the act: two equal acts are two entries

    def outside_fault(self) -> str | None:
        """Nobody outside writes in the name of an operator or of a role of ours."""
        plain = unicodedata.normalize("NFKC", self.actor).strip().casefold()
        name = plain.partition(":")[0].strip()
        if name in RESERVED_ACTORS or not self.actor.isprintable():
            return f"append_audit: the actor {self.actor[:100]!r} is one of ours"
        return None


class PruneCache(Daily, queue="maintenance"):
    """Delete expired answers from the cache, and the least recently used ones above its limit."""

    audience: ClassVar[Audience] = "operators"


class EmbedMissing(Daily, queue="embedding"):
    """Request missing vectors of the live model for the tenant's chunks."""

    audience: ClassVar[Audience] = "operators"


class PlanReindex(Contract, queue="embedding"):
    """List the chunks without a vector of a model, in batches for `embed_chunks`."""

    audience: ClassVar[Audience] = "operators"
    model: Text


class VerifyReindex(Contract, queue="embedding"):
    """Check that every chunk has its vector of a model, and that search finds by it.

    `found_loss_max` is how much smaller the share of sampled chunks that their own words find may
    be than by the model `against`; without that, than 1.
    """

    audience: ClassVar[Audience] = "operators"
    time_limit_s: ClassVar[int] = 600
    model: Text
    recall_min: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    against: Text | None = None
    found_loss_max: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1


class FlipModel(Contract, queue="embedding"):
    """Switch a tenant's search to another model's vectors; request those added meanwhile."""

    audience: ClassVar[Audience] = "operators"
    model: Text


class FollowModel(Contract, queue="embedding"):
    """Copy the vectors of the live model to the platform's table, batch after batch."""

    audience: ClassVar[Audience] = "operators"
    model: Text
    batch: Annotated[int, Field(ge=0)] = 0


class PruneUploads(Daily, queue="ingest"):
    """Delete uploads that no job has taken within a week."""

    audience: ClassVar[Audience] = "operators"


class DeleteDocument(Contract, queue="ingest"):
    """Delete a document and everything derived from it."""

    document_id: DocumentId


class RunStep(Contract, queue="workflow"):
    """Walk along a workflow's run: do the step its row names, and what that makes ready."""

    audience: ClassVar[Audience] = "system"
    time_limit_s: ClassVar[int] = 300
    run_id: RunId


class StartWorkflow(Contract, queue="workflow"):
    """Start a run of a workflow, for schedules and publishers in SQL."""

    name: Text
    input: dict[str, Any] = Field(default_factory=dict)
    run_key: Annotated[str, Field(max_length=255)] | None = None


class DeliverWebhook(Contract, queue="webhooks"):
    """Post an event to a webhook of the tenant."""

    audience: ClassVar[Audience] = "system"
    time_limit_s: ClassVar[int] = 30
    attempts_max: ClassVar[int] = 12
    backoff_s_max: ClassVar[float] = 3_600.0
    webhook_id: Annotated[str, Field(max_length=64)]
    event: dict[str, Any]

    def limit_key(self) -> str:
        """One receiver that is slow can be given a limit of its own."""
        return self.webhook_id


class Probe(Contract, queue="maintenance"):
    """Do nothing, visibly: for health checks and benchmarks."""

    n: int = 0
    mode: Literal["group", "receipt", "statement"] = "group"
    note: Annotated[str, Field(max_length=10_000)] = ""


class ProbeBatch(Contract, queue="maintenance"):
    """Do nothing, fifty at a time: what a batch actor costs."""

    batch_max: ClassVar[int] = 50
    n: int = 0
    bad: bool = False
