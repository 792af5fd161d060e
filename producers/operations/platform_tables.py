"""The expected database: the platform's 35 tables, and the tenant of each row.

`ailydian verify` and the tests compare a database with this module, not with schema.sql.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from psycopg.types.json import Jsonb

ENUMS: Final[dict[str, tuple[str, ...]]] = {
    "UserRole": ("USER", "ADMIN", "SUPER_ADMIN"),
    "TenantTier": ("FREE", "PRO", "ENTERPRISE"),
    "MessageRole": ("USER", "ASSISTANT", "SYSTEM", "TOOL"),
    "BudgetPeriod": ("DAILY", "WEEKLY", "MONTHLY", "YEARLY"),
    "TransactionType": ("CREDIT", "DEBIT", "REFUND"),
    "WorkflowStatus": ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"),
    "DSARType": ("ACCESS", "DELETION", "RECTIFICATION", "PORTABILITY"),
    "DSARStatus": ("PENDING", "PROCESSING", "COMPLETED", "REJECTED"),
    "IncidentSeverity": ("LOW", "MEDIUM", "HIGH", "CRITICAL"),
    "IncidentStatus": ("OPEN", "INVESTIGATING", "RESOLVED", "CLOSED"),
}

_POSTGRES_TYPES: Final = {
    "String": "text",
    "String[]": "text[]",
    "Int": "integer",
    "Float": "double precision",
    "Money": "numeric(20,8)",
    "Boolean": "boolean",
    "DateTime": "timestamp(3) without time zone",
    "Json": "jsonb",
    "vector(1536)": "vector(1536)",
}

# Tables that every tenant may read whole, with the reason.
GLOBAL: Final[dict[str, str]] = {
    "AIProvider": "one catalogue serves every tenant",
    "AIModel": "one catalogue serves every tenant",
    "RoutingScore": "statistics of a model contain no tenant's text",
    "BanditArm": "statistics of a model contain no tenant's text",
    "ProviderHealth": "the availability of a provider is global",
    "JobKind": "the contracts of this version are global",
    "QueueState": "the depth of a queue and its limit are global",
    "EventFold": "numbers of transactions contain no tenant's text",
}

# Tables without row level security, with the reason.
WITHOUT_POLICY: Final[dict[str, str]] = {}

# child: (its column, the parent its tenantId is taken from, whether the parent must exist)
PARENTS: Final[dict[str, tuple[str, str, bool]]] = {
    "Session": ("userId", "User", True),
    "UserPreference": ("userId", "User", True),
    "Conversation": ("userId", "User", True),
    "Message": ("conversationId", "Conversation", True),
    "ConversationMetadata": ("conversationId", "Conversation", True),
    "MessageEmbedding": ("messageId", "Message", True),
    "QualityScore": ("messageId", "Message", True),
    "Provenance": ("messageId", "Message", True),
    "Feedback": ("messageId", "Message", False),
    "ExplainabilityLog": ("messageId", "Message", False),
    "ModerationResult": ("contentId", "Message", False),
    "DocumentChunk": ("documentId", "Document", True),
    "ChunkEmbedding": ("chunkId", "DocumentChunk", True),
    "TrustScore": ("userId", "User", False),
    "DSARRequest": ("userId", "User", False),
    "Wallet": ("userId", "User", True),
    "WalletTransaction": ("walletId", "Wallet", True),
    "WorkflowRun": ("workflowId", "Workflow", True),
    "WorkflowStep": ("runId", "WorkflowRun", True),
}

# A table, then `column Type[?] [updated] [unique] [= default] [-> Table ON DELETE]`; every table
# has `id String = uuid()` besides. `@unique` and `@index` take the columns of a further index.
_DICTIONARY: Final = """
User
    email String unique; name String?; passwordHash String; role UserRole = USER;
    tenantId String? -> Tenant SET NULL; createdAt DateTime = now(); updatedAt DateTime updated;
    @index tenantId
Tenant
    name String; slug String unique; tier TenantTier = FREE; createdAt DateTime = now();
    updatedAt DateTime updated
Session
    userId String -> User CASCADE; token String unique; ipAddress String?; userAgent String?;
    expiresAt DateTime; createdAt DateTime = now(); @index userId
ApiKey
    userId String -> User CASCADE; tenantId String? -> Tenant SET NULL; name String;
    keyHash String unique; prefix String; scopes String[]; expiresAt DateTime?;
    lastUsedAt DateTime?; createdAt DateTime = now(); @index userId; @index tenantId
UserPreference
    userId String unique -> User CASCADE; preferredModel String?; temperature Float?;
    maxTokens Int?; customSettings Json?; updatedAt DateTime updated
Conversation
    userId String -> User CASCADE; title String?; createdAt DateTime = now();
    updatedAt DateTime updated; @index userId; @index createdAt
Message
    conversationId String -> Conversation CASCADE; role MessageRole; content String;
    modelId String? -> AIModel SET NULL; tokensIn Int?; tokensOut Int?; latencyMs Int?;
    cost Money?; createdAt DateTime = now(); @index conversationId; @index createdAt;
    @index modelId
ConversationMetadata
    conversationId String unique -> Conversation CASCADE; tags String[]; sentiment Float?;
    topic String?
AIProvider
    name String unique; slug String unique; baseUrl String?; enabled Boolean = true;
    @index enabled
AIModel
    providerId String -> AIProvider RESTRICT; name String; slug String unique;
    contextWindow Int; costPer1kIn Money; costPer1kOut Money; capabilities String[];
    avgLatencyMs Int?; successRate Float?; enabled Boolean = true; @index providerId;
    @index enabled
RoutingScore
    modelId String -> AIModel RESTRICT; intent String; score Float; pulls Int = 0; wins Int = 0;
    updatedAt DateTime updated; @unique modelId intent; @index intent
QualityScore
    messageId String unique -> Message CASCADE; estimatedScore Float; actualScore Float?;
    metrics Json?; createdAt DateTime = now(); @index estimatedScore
BanditArm
    modelId String; intent String; pulls Int = 0; rewards Float = 0; alpha Float = 1;
    beta Float = 1; updatedAt DateTime updated; @unique modelId intent; @index intent
SemanticCache
    queryHash String unique; queryEmbedding vector(1536); response String; modelId String;
    hitCount Int = 0; expiresAt DateTime; createdAt DateTime = now();
    lastAccessedAt DateTime = now(); @index expiresAt; @index modelId
Provenance
    messageId String unique -> Message CASCADE; modelId String; inputHash String;
    outputHash String; watermark String?; citations Json?; createdAt DateTime = now();
    @index inputHash; @index outputHash
Document
    tenantId String?; title String; content String; source String?; metadata Json?;
    createdAt DateTime = now(); updatedAt DateTime updated; @index tenantId; @index createdAt
DocumentChunk
    documentId String -> Document CASCADE; content String; chunkIndex Int; @index documentId
ChunkEmbedding
    chunkId String unique -> DocumentChunk CASCADE; embedding vector(1536); model String;
    createdAt DateTime = now(); @index model
MessageEmbedding
    messageId String unique -> Message CASCADE; embedding vector(1536); model String;
    createdAt DateTime = now(); @index model
TrainingExample
    prompt String; completion String; rating Float; source String; createdAt DateTime = now();
    @index rating; @index source
AuditLog
    tenantId String? -> Tenant SET NULL; userId String?; action String; resource String;
    resourceId String?; ipAddress String?; userAgent String?; metadata Json?;
    createdAt DateTime = now(); @index tenantId; @index userId; @index createdAt; @index action
EncryptionKey
    keyId String unique; version Int; algorithm String; encryptedDek String;
    createdAt DateTime = now(); rotatedAt DateTime?
ModerationResult
    contentId String; contentType String; flagged Boolean; categories String[]; scores Json;
    action String?; createdAt DateTime = now(); @index contentId; @index flagged;
    @index createdAt
TrustScore
    userId String unique; score Float; factors Json; updatedAt DateTime updated; @index score
DSARRequest
    userId String; type DSARType; status DSARStatus; data Json?; requestedAt DateTime = now();
    completedAt DateTime?; @index userId; @index status
Budget
    tenantId String -> Tenant CASCADE; name String; limitUsd Money; spentUsd Money = 0;
    period BudgetPeriod; resetAt DateTime; createdAt DateTime = now(); @index tenantId
Wallet
    userId String -> User CASCADE; balance Money = 0; currency String = USD;
    createdAt DateTime = now(); updatedAt DateTime updated; @index userId
WalletTransaction
    walletId String -> Wallet CASCADE; amount Money; type TransactionType; description String?;
    createdAt DateTime = now(); @index walletId; @index createdAt
Workflow
    name String; description String?; dag Json; createdAt DateTime = now();
    updatedAt DateTime updated; @index name
WorkflowRun
    workflowId String -> Workflow CASCADE; status WorkflowStatus; input Json?; output Json?;
    error String?; startedAt DateTime = now(); completedAt DateTime?; @index workflowId;
    @index status
WorkflowStep
    runId String -> WorkflowRun CASCADE; stepName String; status WorkflowStatus; input Json?;
    output Json?; error String?; startedAt DateTime = now(); completedAt DateTime?; @index runId
Incident
    title String; description String; severity IncidentSeverity; status IncidentStatus;
    detectedAt DateTime = now(); resolvedAt DateTime?; @index status; @index severity;
    @index detectedAt
ExplainabilityLog
    messageId String; method String; features Json; importance Json; createdAt DateTime = now();
    @index messageId; @index method
Feedback
    messageId String; userId String; rating Int; comment String?; createdAt DateTime = now();
    @index messageId; @index userId; @index createdAt
CRDTState
    resourceType String; resourceId String; nodeId String; hlc String; state Json;
    updatedAt DateTime updated; @unique resourceType resourceId nodeId;
    @index resourceType resourceId; @index hlc
"""


@dataclass(frozen=True)
class Column:
    """One column as the platform's client defines it.

    Attributes:
        kind: The client's scalar type, "Money", or an enum's name; lists end in [].
        default: As the client states it: uuid(), now(), a literal, or None.
        updated: Whether the client sets it at each create and update.
        parent: The table that a foreign key leads to, or None.
        on_delete: CASCADE, SET NULL or RESTRICT; "" without a foreign key.
    """

    name: str
    kind: str
    nullable: bool = False
    default: str | None = None
    updated: bool = False
    unique: bool = False
    parent: str | None = None
    on_delete: str = ""

    @property
    def postgres_type(self) -> str:
        """Return the type as Postgres prints it."""
        return _POSTGRES_TYPES.get(self.kind) or f'"{self.kind}"'

    @property
    def has_default(self) -> bool:
        """Whether the database fills it in for a writer that leaves it out."""
        return self.default is not None or self.updated or self.kind.endswith("[]")


@dataclass(frozen=True)
class Table:
    """One of the platform's tables; composite unique keys and plain indexes name columns."""

    name: str
    columns: tuple[Column, ...]
    uniques: tuple[tuple[str, ...], ...]
    indexes: tuple[tuple[str, ...], ...]

    @property
    def parents(self) -> dict[str, str]:
        """Foreign key columns and the tables they lead to."""
        return {column.name: column.parent for column in self.columns if column.parent}


def _column(words: list[str]) -> Column:
    rest = " ".join(words[2:])
    rest, _, reference = rest.partition("-> ")
    flags, _, default = rest.partition("= ")
    parent, _, on_delete = reference.partition(" ")
    return Column(
        name=words[0],
        kind=words[1].removesuffix("?"),
        nullable=words[1].endswith("?"),
        default=default.strip() or None,
        updated="updated" in flags,
        unique="unique" in flags,
        parent=parent or None,
        on_delete=on_delete,
    )


def _table(name: str, text: str) -> Table:
    entries = [entry.split() for entry in text.split(";")]
    own = [_column(words) for words in entries if not words[0].startswith("@")]
    further = [(words[0], tuple(words[1:])) for words in entries if words[0].startswith("@")]
    return Table(
        name=name,
        columns=(Column("id", "String", default="uuid()"), *own),
        uniques=tuple(columns for mark, columns in further if mark == "@unique"),
        indexes=tuple(columns for mark, columns in further if mark == "@index"),
    )


def _read(dictionary: str) -> dict[str, Table]:
    texts: dict[str, str] = {}
    for line in dictionary.strip().splitlines():
        if line.startswith(" "):
            texts[list(texts)[-1]] += line
        else:
            texts[line] = ""
    return {name: _table(name, text) for name, text in texts.items()}


TABLES: Final[dict[str, Table]] = _read(_DICTIONARY)


def parents_first() -> list[Table]:
    """Return the 35 tables in the order of their foreign keys."""
    ordered: dict[str, Table] = {}
    waiting = list(TABLES.values())
    while waiting:
        ready = [t for t in waiting if all(p in ordered for p in t.parents.values())]
        assert ready, "the platform's foreign keys form no cycle"
        ordered |= {table.name: table for table in ready}
        waiting = [table for table in waiting if table.name not in ordered]
    return list(ordered.values())


def sample_row(table: Table, tag: str, parent_ids: dict[str, str]) -> dict[str, Any]:
    """Build a full row of a table, in the form psycopg sends.

    Args:
        table: One of `TABLES`.
        tag: Makes ids and unique strings of this row unique.
        parent_ids: The id of a row of each table that foreign keys of this one lead to.

    Returns:
        Column names and values; JSON as Jsonb, money as Decimal, times in naive UTC, vectors as
        text.
    """
    return {
        column.name: parent_ids[column.parent] if column.parent else _sample(column, tag)
        for column in table.columns
    }


def _sample(column: Column, tag: str) -> Any:  # noqa: ANN401 - whatever the column takes
    if column.kind in ENUMS:
        return ENUMS[column.kind][-1]
    samples: dict[str, Any] = {
        "String": f"{column.name}-{tag}",
        "String[]": ["bir", "iki"],
        "Int": 7,
        "Float": 0.25,
        "Money": Decimal("12.34567891"),
        "Boolean": True,
        "DateTime": datetime(2026, 1, 2, 3, 4, 5, 678000),  # noqa: DTZ001 - naive UTC, as stored
        "Json": Jsonb({"key": ["value", 1]}),
        "vector(1536)": "[" + ",".join(["0.5"] * 1536) + "]",
    }
    return samples[column.kind]
