"""The base of every contract, the types that their fields share, and the registry of contracts.

The contracts themselves stand in `shared.contracts`; import the registry from there, so that it is
filled. A new family of jobs touches at most five places:

1. `shared/contracts.py`: its contract, `class ChargeCard(Contract, queue="maintenance")`.
2. `workers/actors/QUEUE.py`: its actor, `@actor(ChargeCard) def charge_card(...)`.
3. A module of queries: its statements, each with a typed function.
4. `shared/schema`: its tables, where it has any; `make schema` then writes schema.sql.
5. Its test.

Nothing else lists jobs: `ailydian migrate` tells the database of them, and
`ailydian publish --list` prints them.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from shared import field_errors
from shared.errors import AilydianError, PayloadRefused, UnknownJob
from shared.json_values import UnreadableJson

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Audience = Literal["anyone", "operators", "system"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

QUEUES: tuple[str, ...] = (
    "ingest",
    "embedding",
    "moderation",
    "scoring",
    "audit",
    "workflow",
    "webhooks",
    "maintenance",
)

_NAME_CHARS_MAX: Final = 100
_FAULTS_MAX: Final = 5  # that an error tells of
_AUDIENCES: Final = ", ".join(get_args(Audience))
# What the numbers of a contract may be: whole or not, from, to. The ledger has the same ranges for
# the columns of a job, in ailydian_job_accepted and ailydian_refuse_job.
NUMBERS: Final[Mapping[str, tuple[bool, float, float]]] = {
    "schema_version": (True, 1, 2**31 - 1),
    "time_limit_s": (False, 0.001, 604_800),
    "attempts_max": (True, 1, 1_000_000),
    "backoff_s_max": (False, 0, 604_800),
    "batch_max": (True, 1, 1_000),
}


class Contract(BaseModel):
    """One kind of job. A subclass that names its `queue` is registered by being defined.

    Class attributes:
        actor_name: Name on the wire; by default the class's name in snake case. The actor's
            function has the same name.
        queue_name: The queue, and so the workers, that take it: `queue` of the class statement.
        schema_version: Version of the fields below.
        time_limit_s: After this the attempt is stopped and counted as failed.
        attempts_max: Attempts before the job becomes a dead letter.
        backoff_s_max: The longest wait between two attempts, before its jitter.
        batch_max: Above 1, a worker hands that many jobs of one tenant to the actor at once.
        audience: Who may publish it: `anyone`, the Redis door and SQL among them; `operators`, with
            commands and workflows too; or our own code alone, `system`.
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
    audience: ClassVar[Audience] = "anyone"
    upcasts: ClassVar[Mapping[int, Upcast]] = {}

    def __init_subclass__(cls, *, queue: str | None = None, **config: Any) -> None:  # noqa: ANN401 - pydantic's own
        """Name and register a contract; without `queue` it is a base that contracts share."""
        super().__init_subclass__(**config)
        if queue is not None:
            cls.queue_name = queue
            if "actor_name" not in cls.__dict__:
                cls.actor_name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
            register(cls)

    def key(self) -> str:
        """The idempotency key: a hash of the fields, the same for the same fact."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def limit_key(self) -> str:
        """The key that a `per_key` limit counts this job under, such as a customer; '' for none."""
        return ""

    def cost(self) -> int:
        """The cost of this job for limits by cost, such as the tokens it will use; >= 0."""
        return 1

    def outside_fault(self) -> str | None:
        """Return why nobody outside may publish this, or None; see `audience`."""
        if self.audience == "anyone":
            return None
        return f"{self.actor_name} is not for publishers: audience {self.audience}"

    @classmethod
    def from_payload(cls, payload: dict[str, Any], version: int) -> Self:
        """Read a ledger row's payload, lifting older versions step by step.

        Raises:
            PayloadRefused: Invalid fields, no upcast from `version`, or a stored payload that
                cannot be read (`shared.json_values`).
        """
        if isinstance(payload, UnreadableJson):
            raise PayloadRefused(f"{cls.actor_name}: the payload cannot be read: {payload.why}.")
        try:
            return cls.model_validate(cls._lifted(payload, version))
        except AilydianError:
            raise
        except ValidationError as error:
            fields = [
                (fault["loc"], cls._told(fault))
                for fault in error.errors(include_url=False, include_input=False)[:_FAULTS_MAX]
            ]
            faults = "; ".join(
                f"{'.'.join(map(str, where)) or 'payload'}: {why}" for where, why in fields
            )
            raise PayloadRefused(f"{cls.actor_name}: {faults}.", fields) from None
        except Exception as error:  # an upcast's or a validator's own: no reader may end by it
            raise PayloadRefused(
                f"{cls.actor_name}: reading the payload raised {type(error).__name__}."
            ) from error

    @classmethod
    def _told(cls, fault: ErrorDetails) -> str:
        return field_errors.told(fault, cls.model_fields if len(fault["loc"]) == 1 else ())

    @classmethod
    def _lifted(cls, payload: dict[str, Any], version: int) -> dict[str, Any]:
        while version < cls.schema_version:
            if version not in cls.upcasts:
                raise PayloadRefused(
                    f"{cls.actor_name}: no upcast from version {version} of its payload "
                    f"to version {cls.schema_version}."
                )
            payload = cls.upcasts[version](payload)
            version += 1
        return payload


class Daily(Contract):
    """Work that is done once for each `day`, or for any other text in its place."""

    day: Text


CONTRACTS: dict[str, type[Contract]] = {}
Kind = TypeVar("Kind", bound=type[Contract])


def register(contract: Kind) -> Kind:
    """Register a contract; a class that names its `queue` needs no call.

    A decorator for a class that sets `actor_name` and `queue_name` itself.

    Raises:
        ValueError: A class attribute is not what it may be.
    """
    name = contract.actor_name
    _check_attributes(contract)
    assert contract.queue_name in QUEUES, f"{name}: unknown queue {contract.queue_name}"
    known = CONTRACTS.setdefault(name, contract)
    same = (known.__module__, known.__qualname__) == (contract.__module__, contract.__qualname__)
    assert same, (
        f"{name}: {known.__module__} and {contract.__module__} both define a job of this name"
    )
    CONTRACTS[name] = contract
    return contract


def _check_attributes(contract: type[Contract]) -> None:
    for name, (whole, least, most) in NUMBERS.items():
        value = getattr(contract, name)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not (number and least <= value <= most):  # NaN is in no range
            kind = "whole number" if whole else "number"
            raise ValueError(
                f"{contract.__name__}.{name} is {value!r:.80}, and must be a {kind} "
                f"from {least:,} to {most:,}"
            )
    text = contract.actor_name if isinstance(contract.actor_name, str) else ""
    named = text.isprintable() and 1 <= len(text) <= _NAME_CHARS_MAX
    for name, right, allowed in (
        ("actor_name", named, f"1 to {_NAME_CHARS_MAX} characters"),
        ("audience", contract.audience in get_args(Audience), f"one of {_AUDIENCES}"),
        ("upcasts", isinstance(contract.upcasts, Mapping), "a mapping of versions to functions"),
    ):
        if not right:
            value = getattr(contract, name)
            raise ValueError(f"{contract.__name__}.{name} is {value!r:.80}, and must be {allowed}")


def contract_named(name: str) -> type[Contract]:
    """The contract of this name.

    Raises:
        UnknownJob: There is none; the message lists those that exist.
    """
    if name not in CONTRACTS:
        raise UnknownJob(f"Unknown job {name[:100]!r}; known jobs: {', '.join(sorted(CONTRACTS))}.")
    return CONTRACTS[name]
