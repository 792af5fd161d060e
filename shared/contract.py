"""What a job is on the wire: the base of every contract, and the types their fields share."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import PayloadRefused

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


class Daily(Contract):
    """Work that is done once for each `day`, or for whatever else its asker puts there."""

    day: Text
