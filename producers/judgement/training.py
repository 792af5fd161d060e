"""Export of training examples: OpenAI fine-tuning files and preference pairs."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final, Literal

from shared import db
from shared.ids import TenantId
from shared.queries.judgement import training_examples
from shared.queries.judgement.training_examples import ExampleRow

Format = Literal["openai", "dpo"]
Split = Literal["train", "holdout", "all"]
SOURCES: Final[dict[str, str]] = {"openai": "feedback", "dpo": "preference"}
PAGE: Final = 500


def examples(tenant_id: TenantId, source: str | None = None) -> Iterator[ExampleRow]:
    """Yield a tenant's examples by id, one page per transaction."""
    after = ""
    while True:
        with db.transaction(tenant_id) as conn:
            page = list(training_examples.select_examples(conn, source, after=after, limit=PAGE))
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


def split_of(prompt: str, *, holdout: float) -> str:
    """Return `train` or `holdout` by a hash of the prompt: equal prompts get the same split.

    Args:
        prompt: The question.
        holdout: The share that is held out, in [0, 1).
    """
    place = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
    return "holdout" if place < holdout else "train"


def line(example: ExampleRow, form: Format, system: str | None = None) -> dict[str, Any]:
    """Format one line of an export.

    `openai` is a chat to imitate, `dpo` a preferred and a rejected answer.

    Source: OpenAI's formats for supervised fine-tuning and for direct preference optimisation.
    """
    asked = [{"role": "user", "content": example.prompt}]
    if system:
        asked.insert(0, {"role": "system", "content": system})
    answer = {"role": "assistant", "content": example.completion}
    if form == "openai":
        return {"messages": [*asked, answer]}
    rejected = {"role": "assistant", "content": example.rejected}
    return {
        "input": {"messages": asked},
        "preferred_output": [answer],
        "non_preferred_output": [rejected],
    }
