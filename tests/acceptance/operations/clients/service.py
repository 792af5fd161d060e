"""A service in Python: publishes, uploads, asks, cancels and follows with the generated client."""

import io
import json
import os

from ailydian_client import AuthenticatedClient
from ailydian_client.api.documents import submit_document
from ailydian_client.api.jobs import cancel_job, list_jobs, publish_jobs, show_job
from ailydian_client.models import (
    Accepted,
    AcceptedList,
    DocumentForm,
    JobRequest,
    JobRequestPayload,
    Problem,
    Submission,
)
from ailydian_client.types import File

client = AuthenticatedClient(base_url=os.environ["AILYDIAN_URL"], token=os.environ["AILYDIAN_KEY"])


def probe(n: int) -> JobRequest:
    """A job."""
    return JobRequest(job="probe", payload=JobRequestPayload.from_dict({"n": n}))


first = publish_jobs.sync(client=client, body=probe(1), idempotency_key="order-1")
again = publish_jobs.sync(client=client, body=probe(1), idempotency_key="order-1")
assert isinstance(first, Accepted)
assert first == again
assert show_job.sync(first.id, client=client).payload["n"] == 1

lines = "\n".join(json.dumps(probe(n).to_dict()) for n in (2, 3)).encode()
many = publish_jobs.sync(client=client, body=File(io.BytesIO(lines)))
assert isinstance(many, AcceptedList)
assert len(many.items) == 2
assert len(list_jobs.sync(client=client, job="probe").items) == 3

assert cancel_job.sync(first.id, client=client).state == "CANCELLED"
with client.get_httpx_client().stream(
    "GET", "/v1/events", params={"id": first.id, "after": "0"}
) as events:
    lines_of_events = events.iter_lines()
    told = next(json.loads(line[5:]) for line in lines_of_events if '"what"' in line)
assert (told["jobId"], told["what"]) == (first.id, "CANCELLED")

text = File(io.BytesIO(b"# Tides\n\nThe sea rises."), "tides.md", "text/markdown")
uploaded = submit_document.sync(client=client, body=DocumentForm(file=text))
assert isinstance(uploaded, Submission), uploaded
assert uploaded.state == "PUBLISHED"

problem = publish_jobs.sync(client=client, body=JobRequest(job="prob"))
assert isinstance(problem, Problem)
print(problem.code)
