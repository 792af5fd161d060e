"""Every job that crosses the wire, on one page.

A contract is the whole promise between who publishes and who works: name, queue, fields, limits.
Its fields name the fact that caused the job, so they make the idempotency key. To change one in a
way old rows do not fit, raise `schema_version` and give `upcasts` the step from the version before.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import PayloadRefused, UnknownJob
from shared.ids import ChunkId, DocumentId, MessageId, RunId, UserId

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

QUEUES: tuple[str, ...] = (
    "ingest",
    "embedding",
    "moderation",
    "scoring",
    "audit",
    "workflow",
    "governance",
    "maintenance",
)


class Contract(BaseModel):
    """One kind of job.

    Class attributes:
        actor_name: Name on the wire; the actor's function has it too.
        queue_name: Which workers take it.
        schema_version: Version of the fields below.
        time_limit_s: After this the attempt is stopped and counted as failed.
        attempts_max: Attempts before the job becomes a dead letter.
        backoff_s_max: The longest wait between two attempts, before its jitter.
        batch_max: Above 1, a worker hands that many jobs of one tenant to the actor at once.
        upcasts: From version n, the function that makes a payload of version n + 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor_name: ClassVar[str]
    queue_name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    time_limit_s: ClassVar[int] = 60
    attempts_max: ClassVar[int] = 8
    backoff_s_max: ClassVar[float] = 1_200.0
    batch_max: ClassVar[int] = 1
    upcasts: ClassVar[Mapping[int, Upcast]] = {}

    def key(self) -> str:
        """The idempotency key: a hash of the fields, the same for the same fact."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def limit_key(self) -> str:
        """By what a limit with `per_key` counts this job, such as a customer; '' for nothing."""
        return ""

    def cost(self) -> int:
        """What a limit by cost counts this job as, such as the tokens it will use; >= 0."""
        return 1

    @classmethod
    def from_payload(cls, payload: dict[str, Any], version: int) -> Self:
        """Read a ledger row's payload, lifting older versions step by step.

        Raises:
            PayloadRefused: The fields do not fit, or no upcast leads here from `version`.
        """
        while version < cls.schema_version:
            if version not in cls.upcasts:
                raise PayloadRefused(
                    f"{cls.actor_name}: no way leads from version {version} of its payload "
                    f"to version {cls.schema_version}."
                )
            payload = cls.upcasts[version](payload)
            version += 1
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'payload'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)[:5]
            )
            raise PayloadRefused(f"{cls.actor_name}: {faults}.") from None


class IngestDocument(Contract):
    """Turn an upload, or a row the platform wrote, into a document with its chunks."""

    actor_name: ClassVar[str] = "ingest_document"
    queue_name: ClassVar[str] = "ingest"
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


class EmbedChunks(Contract):
    """Give chunks that lack a vector of a model their vector: the work of several jobs at once."""

    actor_name: ClassVar[str] = "embed_chunks"
    queue_name: ClassVar[str] = "embedding"
    time_limit_s: ClassVar[int] = 300
    batch_max: ClassVar[int] = 16
    document_id: DocumentId
    chunk_ids: Annotated[list[ChunkId], Field(min_length=1, max_length=64)]
    model: Text


class EmbedMessages(Contract):
    """Give messages that the platform recorded their vector."""

    actor_name: ClassVar[str] = "embed_messages"
    queue_name: ClassVar[str] = "embedding"
    time_limit_s: ClassVar[int] = 300
    batch_max: ClassVar[int] = 16
    message_ids: Annotated[list[MessageId], Field(min_length=1, max_length=64)]
    model: Text
    changed_at: str = ""  # a message that is written again is another fact


class ApplyFeedback(Contract):
    """Carry the ratings of a message over to the quality score that was estimated for it."""

    actor_name: ClassVar[str] = "apply_feedback"
    queue_name: ClassVar[str] = "scoring"
    message_id: MessageId
    feedback_id: str
    changed_at: Text


class ModerateContent(Contract):
    """Judge a document or a message: what it holds that should not pass."""

    actor_name: ClassVar[str] = "moderate_content"
    queue_name: ClassVar[str] = "moderation"
    content_type: Literal["document", "message"]
    content_id: Text
    content_sha256: Sha256 | None = None  # names what was judged: other words are another fact


class Citation(BaseModel):
    """A passage that an answer rests on: offsets within its chunk."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    chunk_id: Annotated[ChunkId, Field(alias="chunkId")]
    document_id: Annotated[DocumentId, Field(alias="documentId")]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]


class RecordMessage(Contract):
    """Record an answer, and the question before it, with what it rests on.

    Without `conversation_id` a conversation begins: of `user_id`, or of the tenant's first user.
    Without `tokens_in` and `tokens_out`, those of the question and the answer are counted.
    """

    actor_name: ClassVar[str] = "record_message"
    queue_name: ClassVar[str] = "scoring"
    content: Annotated[str, Field(min_length=1, max_length=50_000)]
    model: Text
    question: Annotated[str, Field(max_length=50_000)] = ""
    conversation_id: str | None = None
    user_id: UserId | None = None
    citations: Annotated[list[Citation], Field(max_length=100)] = []
    cost_usd: Annotated[str, Field(pattern=r"^\d{1,12}(\.\d{1,8})?$")] = "0"
    tokens_in: Annotated[int | None, Field(ge=0)] = None
    tokens_out: Annotated[int | None, Field(ge=0)] = None


class ScoreQuality(Contract):
    """Estimate how good a recorded answer is."""

    actor_name: ClassVar[str] = "score_quality"
    queue_name: ClassVar[str] = "scoring"
    message_id: MessageId
    question: Annotated[str, Field(max_length=50_000)] = ""
    chunk_ids: Annotated[list[ChunkId], Field(max_length=100)] = []


class EmbedMissing(Contract):
    """Ask for the vectors that chunks of the tenant lack of the live model."""

    actor_name: ClassVar[str] = "embed_missing"
    queue_name: ClassVar[str] = "embedding"
    day: Text


class PlanReindex(Contract):
    """List the chunks that lack a vector of a model, in batches for `embed_chunks`."""

    actor_name: ClassVar[str] = "plan_reindex"
    queue_name: ClassVar[str] = "embedding"
    model: Text


class VerifyReindex(Contract):
    """Check that every chunk has its vector of a model, and that search finds by it.

    `found_loss_max` is how much smaller the share of sampled chunks that their own words find may
    be than by the model `against`; without that, than 1.
    """

    actor_name: ClassVar[str] = "verify_reindex"
    queue_name: ClassVar[str] = "embedding"
    time_limit_s: ClassVar[int] = 600
    model: Text
    recall_min: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    against: Text | None = None
    found_loss_max: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1


class FlipModel(Contract):
    """Let a tenant's search read another model's vectors; ask for those that came meanwhile."""

    actor_name: ClassVar[str] = "flip_model"
    queue_name: ClassVar[str] = "embedding"
    model: Text


class FollowModel(Contract):
    """Carry the vectors of the live model over to the platform's table, batch after batch."""

    actor_name: ClassVar[str] = "follow_model"
    queue_name: ClassVar[str] = "embedding"
    model: Text
    batch: Annotated[int, Field(ge=0)] = 0


class PruneUploads(Contract):
    """Remove uploads that no job has taken within a week."""

    actor_name: ClassVar[str] = "prune_uploads"
    queue_name: ClassVar[str] = "ingest"
    day: Text


class DeleteDocument(Contract):
    """Remove a document and all that was made of it."""

    actor_name: ClassVar[str] = "delete_document"
    queue_name: ClassVar[str] = "ingest"
    document_id: DocumentId


class RunStep(Contract):
    """Walk along a workflow's run: do the step its row names, and what that makes ready."""

    actor_name: ClassVar[str] = "run_step"
    queue_name: ClassVar[str] = "workflow"
    time_limit_s: ClassVar[int] = 300
    run_id: RunId


class StartWorkflow(Contract):
    """Start a run of a workflow, for schedules and for whoever publishes in SQL."""

    actor_name: ClassVar[str] = "start_workflow"
    queue_name: ClassVar[str] = "workflow"
    name: Text
    input: dict[str, Any] = {}
    run_key: Annotated[str, Field(max_length=255)] | None = None


class Probe(Contract):
    """Do nothing, visibly: for health checks and benchmarks."""

    actor_name: ClassVar[str] = "probe"
    queue_name: ClassVar[str] = "maintenance"
    n: int = 0
    mode: Literal["group", "receipt", "statement"] = "group"
    note: Annotated[str, Field(max_length=10_000)] = ""


class ProbeBatch(Contract):
    """Do nothing, fifty at a time: what a batch actor costs."""

    actor_name: ClassVar[str] = "probe_batch"
    queue_name: ClassVar[str] = "maintenance"
    batch_max: ClassVar[int] = 50
    n: int = 0
    bad: bool = False


CONTRACTS: dict[str, type[Contract]] = {
    contract.actor_name: contract
    for contract in (
        IngestDocument,
        EmbedChunks,
        EmbedMessages,
        ApplyFeedback,
        ModerateContent,
        RecordMessage,
        ScoreQuality,
        EmbedMissing,
        PlanReindex,
        VerifyReindex,
        FlipModel,
        FollowModel,
        PruneUploads,
        DeleteDocument,
        RunStep,
        StartWorkflow,
        Probe,
        ProbeBatch,
    )
}


Kind = TypeVar("Kind", bound=type[Contract])


def register(contract: Kind) -> Kind:
    """Add a contract of your own; its module is named in AILYDIAN_PLUGINS, beside its actor's."""
    assert contract.queue_name in QUEUES, f"{contract.actor_name}: no queue {contract.queue_name}"
    CONTRACTS[contract.actor_name] = contract
    return contract


def contract_named(name: str) -> type[Contract]:
    """The contract of this name.

    Raises:
        UnknownJob: There is none; the message lists those that exist.
    """
    if name not in CONTRACTS:
        raise UnknownJob(f"No job is named {name!r}; there are: {', '.join(sorted(CONTRACTS))}.")
    return CONTRACTS[name]
