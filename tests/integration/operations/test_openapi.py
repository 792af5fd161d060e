"""The OpenAPI document is true: schemathesis makes good and bad requests from it."""

import pytest
import schemathesis
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

from producers.accounts.scopes import Scope
from tests.support.factories import make_tenant, make_user
from tests.support.http_api import make_key

EXAMPLES = 5


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: object, value: object) -> bytes:
    """Lines as they are."""
    return value if isinstance(value, bytes) else str(value).encode()


def _found(port: int, key: str) -> list[str]:
    """Run every phase and check; what failed, in words."""
    config = SchemathesisConfig.from_dict(
        {
            "headers": {"Authorization": f"Bearer {key}"},
            "generation": {"max-examples": EXAMPLES},
            "seed": 1,
            # That a job exists, its payload fits and a password is right no schema can say.
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": [
                        "2xx",
                        "401",
                        "403",
                        "404",
                        "409",
                        "412",
                        "413",
                        "422",
                        "429",
                    ]
                },
                # A tag that is none is the tag of nothing: RFC 9110 answers 412.
                "negative_data_rejection": {"expected-statuses": ["4xx", "5xx"]},
            },
        }
    )
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json", config=config)
    schema = schema.exclude(operation_id="stream_events")  # its answer has no end
    failed = {}
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            failed[str(event)] = None
        if isinstance(event, events.ScenarioFinished):
            for checks in event.recorder.checks.values():
                for one in (check.failure_info for check in checks if check.failure_info):
                    words = (one.failure.operation, one.failure.message, one.code_sample)
                    failed[": ".join(map(str, words))] = None
    return [*failed]


@pytest.mark.timeout(300)
def test_every_request_is_answered_as_the_document_says(api):
    make_tenant("acme")
    key = make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)

    found = _found(api.port, key)
    assert not found, "\n\n".join(found)
