"""Names for the TEXT ids of the platform, so that one cannot be passed for another."""

from typing import NewType

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", str)
JobId = NewType("JobId", str)
DocumentId = NewType("DocumentId", str)
ChunkId = NewType("ChunkId", str)
MessageId = NewType("MessageId", str)
RunId = NewType("RunId", str)
StepId = NewType("StepId", str)
