"""JSON that is nearly right: values at the edges of what JSON, Python and Postgres take."""

import json
import random

from shared.contracts import CONTRACTS

VALUES = [
    *("0", "-0", "1e5", "1e308", "1e309", "1e5000", "-1e5000", "1e-5000", "9" * 400, "9" * 5_000),
    *("NaN", "-Infinity", "true", "null", "[1,2", "{1}", "[]", "{}", '{"a": 1, "a": 2}'),
    *('""', '"\\ud83d"', '"\\u0000"', '"\\u00e7"', '{"\\ud800": 1}', f'"{"x" * 70_000}"'),
    *("[" * depth + "]" * depth for depth in (60, 101, 300, 5_000)),
    '{"a":' * 120 + "1" + "}" * 120,
]


def payload(rng: random.Random, job: str) -> str:
    """A JSON text for a job, some fields of which are nonsense."""
    names = list(CONTRACTS[job].model_fields) if job in CONTRACTS else ["n"]
    parts = [
        f"{json.dumps(name)}: {rng.choice(VALUES)}"
        for name in rng.sample(names, rng.randrange(len(names) + 1))
    ]
    return rng.choice(["{%s}"] * 20 + ["%s", "[%s]", "{%s", "\ufeff{%s}"]) % ", ".join(parts)
