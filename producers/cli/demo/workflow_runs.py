"""The demo's workflow runs: two shipped definitions, each read back from Postgres."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from producers import demo as documents_of_ours
from producers.cli.workflow import run_watch
from producers.cli.workflow.run_tree import rendered
from producers.workflow import run_view, workflows
from producers.workflow.shipped import shipped
from shared import db
from shared.contracts import IngestDocument
from shared.db import Role
from shared.errors import PermanentError
from shared.ids import TenantId
from shared.queries.accounts import accounts
from shared.queries.documents import documents

QUEUES = ("workflow", "moderation", "scoring")
READER = "reader@demo.invalid"
Say = Callable[[str], None]


class RunFailed(PermanentError):
    """A run of the demo did not end as it should."""

    code = "demo_run_failed"


def run(tenant_id: TenantId, slug: str, check: Callable[[], None], say: Say) -> dict[str, Any]:
    """Run the onboarding and the question workflow. Returns their results.

    Raises:
        RunFailed: A run did not complete.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        accounts.insert_user(conn, READER, name="Reader", role="USER", tenant_id=tenant_id)
    path = documents_of_ours.documents()[0]
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with db.transaction(tenant_id) as conn:
        key = IngestDocument.ingest_key(path.name, digest)
        upload_id = documents.insert_upload(conn, key, digest, content)
    document = {"upload_id": upload_id, "content_sha256": digest, "source": path.name}
    question = documents_of_ours.QUESTIONS[0].text
    runs = [
        _run(tenant_id, slug, "document-onboarding", document, check, say),
        _run(tenant_id, slug, "answer-question", {"question": question}, check, say),
    ]
    return {"status": "completed", "runs": runs}


def _run(
    tenant_id: TenantId,
    slug: str,
    name: str,
    given: Mapping[str, Any],
    check: Callable[[], None],
    say: Say,
) -> dict[str, Any]:
    with db.transaction(tenant_id) as conn:
        workflows.put(conn, shipped()[name], source=name)
        run_id = workflows.start(conn, name, given).id
    run_watch.wait(tenant_id, slug, run_id, check)
    view = run_view.read(tenant_id, run_id, slug, limit=run_view.NOTABLE_MAX)
    if view.run.state != "completed":
        raise RunFailed(f"The run {run_id} of {name} is {view.run.state}: {view.run.error}.")
    say("")
    for line in rendered(view):
        say(line.plain)
    return run_view.document(view)
