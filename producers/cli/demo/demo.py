"""The `demo` command: an end-to-end run on built-in documents, verified in Postgres."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import click

from producers import demo as documents_of_ours
from producers.cli.demo import judged_conversation, workflow_runs
from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json
from producers.cli.terminal.waiting import follow
from producers.documents.submission import submit_document
from producers.operations import audit_keys, audit_log, audit_sealing
from producers.queries.documents import document_counts
from producers.queries.ledger import dead_letters
from shared import db
from shared.contracts import IngestDocument
from shared.db import Role
from shared.documents import search
from shared.errors import PermanentError
from shared.ids import JobId, TenantId
from shared.ledger.outbox import publish
from shared.models.embedding_model import live_model
from shared.queries.accounts import accounts
from shared.queries.documents import documents
from shared.servers.embedded import Servers
from shared.settings import settings

SLUG = "demo"
QUEUES = ("ingest", "embedding", *workflow_runs.QUEUES)
LOST = "A letter that was lost in the post and found again. Kayıp bir mektup bulundu."

Check = Callable[[], None]
Say = Callable[[str], None]


class DemoFailed(PermanentError):
    """A check of the demo failed."""

    code = "demo_failed"


@click.command()
@json_option
def demo(as_json: bool) -> None:
    """Ingest and search Turkish and English documents; run two workflows; judge a conversation.

    It uses the tenant `demo` and starts a relay and workers if none run. It exits 0 only if the
    database confirms every result. A second run finds the work already done.
    """
    began = time.monotonic()
    say: Say = (lambda _: None) if as_json else click.echo
    with session.opened() as servers:
        answer = _run(servers, say)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json(answer | {"seconds": seconds})
    else:
        say(f"\nAll results verified in the database. {seconds} seconds.")


def _run(servers: Servers, say: Say) -> dict[str, Any]:
    with db.transaction(None, role=Role.OWNER) as conn:
        tenant, _ = accounts.put_tenant(conn, SLUG, name=None, tier=None)
        tenant_id = TenantId(tenant.id)
    with someone_works(servers, QUEUES) as check:
        _ingest(tenant_id, check, say)
        replayed = _replay(tenant_id, check, say)
        runs = workflow_runs.run(tenant_id, SLUG, check, say)
        with db.transaction(tenant_id) as conn:
            reader = accounts.select_user_id(conn, workflow_runs.READER)
        assert reader is not None, "the runs made their reader"
        judged = judged_conversation.run(tenant_id, reader, check, say)
    with db.transaction(tenant_id) as conn:
        model = live_model(conn)
        held = document_counts.select_holdings(conn, model)
    if held.unsearchable or held.misquoted or held.embeddings != held.chunks:
        raise DemoFailed(f"The tables are inconsistent: {held}.")
    say(f"\n{held.documents} documents, {held.chunks} chunks, {held.embeddings} vectors ({model})")
    audited = _seal(say)
    searches = [_ask(tenant_id, question, say) for question in documents_of_ours.QUESTIONS]
    return {
        "documents": held.documents,
        "chunks": held.chunks,
        "embeddings": held.embeddings,
        "searches": searches,
        "workflow": runs,
        "judgement": judged,
        "replayed": replayed,
        "audited": audited,
    }


def _seal(say: Say) -> int:
    """Seal the audit log and verify it whole."""
    audit_sealing.sweep(audit_keys.audit_keys(settings()), threading.Event())
    found = audit_log.verify_audit(settings())
    if not found.ok:
        raise DemoFailed(f"The audit log is broken: {found.faults[0].sentence}")
    say(f"{found.entries} audit entries are sealed in chains of hashes and verified")
    return found.entries


def _ingest(tenant_id: TenantId, check: Check, say: Say) -> None:
    submitted: dict[JobId, str] = {}
    for path in documents_of_ours.documents():
        with db.transaction(tenant_id) as conn:
            done = submit_document(conn, path.read_bytes(), source=path.name)
        if done.job_id is None:
            say(f"  {path.name:30} unchanged, {done.chunks} chunks")
        else:
            submitted[done.job_id] = path.name
    for job_id, family in follow(submitted, check):
        failed = [one for one in family if one.state != "COMPLETED"]
        if failed:
            raise DemoFailed(f"{submitted[job_id]}: {failed[0].error or failed[0].state}.")
        outcome = family[0].outcome or {}
        say(f"  {submitted[job_id]:30} ingested, {outcome.get('chunks')} chunks embedded")


def _replay(tenant_id: TenantId, check: Check, say: Say) -> int:
    """Let a job die because its upload is missing, restore the bytes and replay it."""
    with db.transaction(tenant_id) as conn:
        upload_id = documents.insert_upload(conn, "", "", LOST.encode())
        job = IngestDocument(
            content_sha256=uuid.uuid4().hex * 2,  # another text each time
            source="found-letter.txt",
            upload_id=upload_id,
        )
        documents.delete_upload(conn, upload_id)
        job_id = publish(conn, job).id
    _expect(job_id, "DEAD", check)
    say(f"\nJob {job_id} died: its upload is missing. Restoring it and replaying the job.")
    with db.transaction(tenant_id) as conn:
        documents.restore_upload(conn, upload_id, LOST.encode())
    with db.transaction(None, role=Role.RELAY) as conn:
        replayed = len(dead_letters.replay(conn, [job_id]))
    _expect(job_id, "COMPLETED", check)
    return replayed


def _expect(job_id: JobId, state: str, check: Check) -> None:
    for _, family in follow([job_id], check):
        if family[0].state != state:
            raise DemoFailed(f"Job {job_id} is {family[0].state}, not {state}: {family[0].error}.")


def _ask(tenant_id: TenantId, question: documents_of_ours.DemoQuestion, say: Say) -> dict[str, Any]:
    hits = search.search(tenant_id, question.text, k=10, mode="hybrid")
    place = next((at for at, hit in enumerate(hits, 1) if hit.source == question.expected), None)
    if place is None or place > documents_of_ours.HITS:
        raise DemoFailed(f"{question.text!r} does not find {question.expected}.")
    hit = hits[place - 1]
    excerpt = " ".join(hit.content.split())[:160]
    say(f"\n? {question.text}\n  {place}. {hit.source} [{hit.start}:{hit.end}] {excerpt}")
    return {
        "query": question.text,
        "expected": question.expected,
        "place": place,
        "title": hit.title,
        "excerpt": excerpt,
    }
