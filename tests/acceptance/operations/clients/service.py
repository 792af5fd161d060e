"""A service in Python: publishes jobs, asks for one and cancels it, with the generated client."""

import io
import json
import os

from ailydian_client import AuthenticatedClient
from ailydian_client.api.jobs import cancel_job, list_jobs, publish_jobs, show_job
from ailydian_client.models import Accepted, AcceptedList, JobRequest, JobRequestPayload, Problem
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
problem = publish_jobs.sync(client=client, body=JobRequest(job="prob"))
assert isinstance(problem, Problem)
print(problem.code)
