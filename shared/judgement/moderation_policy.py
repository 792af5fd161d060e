"""A tenant's moderation policy, and what it makes of scores: a pure decision.

A category at or above its `flag_at` is flagged, at or above its `block_at` blocked; without a
`block_at` it never blocks. The worst category decides. With `trust_adjusted`, thresholds bend by
how far the author is trusted (`shared.judgement.trust.strictness`), within [0.05, 1].
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared import field_errors
from shared.errors import PolicyRefused

Action = Literal["allow", "flag", "block"]
Threshold = Annotated[float, Field(ge=0.0, le=1.0)]
THRESHOLD_MIN: Final = 0.05
# OpenAI's vocabulary, and three of ours.
CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "pii",
    "prompt-injection",
    "secret",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


class Thresholds(BaseModel):
    """The scores from which a category is flagged, and blocked; None never blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flag_at: Threshold = 0.5
    block_at: Threshold | None = 0.9

    @model_validator(mode="after")
    def _in_order(self) -> "Thresholds":
        if self.block_at is not None and self.block_at < self.flag_at:
            raise ValueError("block_at must not be below flag_at")
        return self


class ModerationPolicy(BaseModel):
    """Thresholds by category, and for those that are not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Thresholds = Thresholds()
    categories: dict[str, Thresholds] = Field(default_factory=dict)
    trust_adjusted: bool = True

    @model_validator(mode="after")
    def _known(self) -> "ModerationPolicy":
        for name in self.categories:
            if name not in CATEGORIES:
                near = difflib.get_close_matches(name, CATEGORIES, n=1)
                hint = (
                    f"did you mean {near[0]}?"
                    if near
                    else f"known categories: {', '.join(CATEGORIES)}"
                )
                raise ValueError(f"unknown category {name!r}; {hint}")
        return self

    def of(self, category: str) -> Thresholds:
        """The thresholds of a category."""
        return self.categories.get(category, self.default)


# Personal data is flagged and passes: people write to each other about themselves. So does a
# prompt injection, however little its author is trusted. An issued key (0.95) is
# blocked however much its author is: 0.86 bent by the mildest factor, 1.1, is 0.946.
DEFAULT: Final = ModerationPolicy(
    categories={
        "pii": Thresholds(block_at=None),
        "prompt-injection": Thresholds(block_at=None),
        "secret": Thresholds(block_at=0.86),
    }
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about a text; `thresholds` are the adjusted ones of its categories."""

    action: Action
    categories: list[str]
    thresholds: dict[str, dict[str, float | None]]

    @property
    def is_flagged(self) -> bool:
        """Return whether anything is at or above its `flag_at`."""
        return self.action != "allow"


def decide(
    scores: Mapping[str, float], policy: ModerationPolicy, *, strictness: float = 1.0
) -> Decision:
    """Decide whether a text is allowed, flagged or blocked.

    Args:
        scores: By category, in [0, 1]; absent ones are 0.
        policy: The tenant's.
        strictness: The factor on all thresholds, if the policy lets trust bend them.
    """
    factor = strictness if policy.trust_adjusted else 1.0
    action: Action = "allow"
    flagged, thresholds = [], {}
    for category, score in sorted(scores.items()):
        limits = policy.of(category)
        flag_at = _bent(limits.flag_at, factor)
        block_at = None if limits.block_at is None else _bent(limits.block_at, factor)
        thresholds[category] = {"flag_at": flag_at, "block_at": block_at}
        if score >= flag_at:
            flagged.append(category)
            action = "flag" if action == "allow" else action
        if block_at is not None and score >= block_at:
            action = "block"
    return Decision(action, flagged, thresholds)


def read(document: object) -> ModerationPolicy:
    """A policy as JSON describes it.

    Raises:
        PolicyRefused: With every error and its path.
    """
    try:
        return ModerationPolicy.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'policy'}: {field_errors.told(fault)}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise PolicyRefused(f"Invalid policy: {faults}.") from None


def _bent(threshold: float, factor: float) -> float:
    return round(min(max(threshold * factor, THRESHOLD_MIN), 1.0), 6)
