"""The `ingest` command: make files, folders, globs or standard input searchable."""

import contextlib
import glob
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from producers.cli.roles.temporary_workers import someone_works
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table, say
from producers.cli.terminal.progress import Advance, progress
from producers.cli.terminal.values import tenant_option
from producers.cli.terminal.visible import bytes_escaped
from producers.cli.terminal.waiting import follow
from producers.documents.listing import ingested
from producers.documents.submission import DOCUMENT_BYTES_MAX, submit_document
from producers.ledger import serving
from producers.queries.ledger.jobs import Progress
from shared import db
from shared.errors import AilydianError, ServerUnavailable, TenantNotFound, UsageError
from shared.ids import DocumentId, JobId, TenantId

# Extensions searched for in folders; a file named explicitly is always taken.
KINDS = frozenset(
    {
        *(".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf", ".docx", ".pptx"),
        *(".xlsx", ".csv", ".tsv", ".json", ".jsonl", ".eml", ".epub", ".rtf"),
    }
)
QUEUES = ("ingest", "embedding")
STDIN = "-"


@dataclass(slots=True)
class IngestOutcome:
    """The result of ingesting one path."""

    id: DocumentId | None
    path: str
    status: str
    chunks: int | None
    error: str | None


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@tenant_option
@click.option("--wait", is_flag=True, help="Wait until every document is searchable.")
@click.option("--title", help="Title, for a single document. Default: from its content.")
@click.option(
    "--lossy", is_flag=True, help="Accept ambiguous encodings; undecodable bytes become U+FFFD."
)
@json_option
@click.pass_context
def ingest(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    slug: str,
    wait: bool,
    as_json: bool,
    **how: object,
) -> None:
    """Ingest files, folders (all supported files in them), globs, or - for standard input.

    The path identifies the document: new content under the same path is a new version, the same
    content does nothing. With embedded servers and no running worker, the command does the work
    itself and waits. Exits 1 if a document failed.
    """
    found = list(_expand(paths))
    if how["title"] is not None and len(found) != 1:
        raise UsageError(f"--title needs exactly one document (got {len(found)}).")
    with session.opened() as servers:
        tenant_id = session.tenant_named(slug)
        missing = [queue for queue in QUEUES if queue not in serving.queues_served()]
        follows = wait or (servers.embedded and bool(missing))
        with contextlib.ExitStack() as stack:
            check = stack.enter_context(someone_works(servers, QUEUES)) if follows else None
            advance = stack.enter_context(progress(len(found), "Ingesting"))
            submitted = _submit(tenant_id, found, how, advance)
            if check is not None:
                _await(submitted, check, advance)
        if missing and not follows:
            say(f"No worker serves the queue {missing[0]}: start one with `ailydian work`.")
    outcomes = [outcome for outcome, _ in submitted]
    _print(outcomes, [job_id for _, job_id in submitted if job_id], as_json)
    ctx.exit(1 if any(one.status in {"REFUSED", "DEAD"} for one in outcomes) else 0)


def _expand(paths: Sequence[str]) -> Iterator[str]:
    """List every file once, in the order given; folders and globs are sorted.

    Raises:
        UsageError: A path does not exist or has nothing to ingest.
    """
    seen = set()
    for path in paths:
        for one in _files_of(path):
            if one not in seen:
                seen.add(one)
                yield one


def _files_of(path: str) -> list[str]:
    if path == STDIN or Path(path).is_file():
        return [path]
    if Path(path).is_dir():
        found = _files_below(path)
        if not found:
            raise UsageError(f"{path}: the folder has no file of a supported type.")
        return found
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207 - keeps the path as it was given
    if not matches:
        raise UsageError(f"{path}: no such file or folder.")
    files = [one for one in matches if Path(one).is_file()]
    return files or [one for folder in matches for one in _files_below(folder)]


def _files_below(folder: str) -> list[str]:
    root = Path(folder)
    below = (
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in KINDS and path.is_file()
    )
    visible = (path for path in below if not any(part.startswith(".") for part in path.parts))
    return [f"{folder.rstrip('/')}/{path.as_posix()}" for path in sorted(visible)]


def _submit(
    tenant_id: TenantId, paths: Sequence[str], how: dict[str, object], advance: Advance
) -> list[tuple[IngestOutcome, JobId | None]]:
    """Submit every file in its own transaction; a rejected file does not stop the others."""
    submitted = []
    for path in paths:
        job_id, shown = None, bytes_escaped(path)
        try:
            if shown != path:
                raise UsageError("name_not_utf8: rename the file to be ingested.")
            outcome, job_id = _submit_one(tenant_id, path, how)
        except OSError as error:
            outcome = IngestOutcome(None, shown, "REFUSED", None, f"unreadable: {error.strerror}.")
        except (ServerUnavailable, TenantNotFound):
            raise
        except AilydianError as error:
            outcome = IngestOutcome(None, shown, "REFUSED", None, str(error))
        if job_id is None:
            advance()
        submitted.append((outcome, job_id))
    return submitted


def _submit_one(
    tenant_id: TenantId, path: str, how: dict[str, object]
) -> tuple[IngestOutcome, JobId | None]:
    content = _read(path)
    with db.transaction(tenant_id) as conn:
        done = submit_document(
            conn,
            content,
            source=None if path == STDIN else path,
            title=str(how["title"]) if how["title"] is not None else None,
            lossy=bool(how["lossy"]),
        )
    if done.state == "UNCHANGED":
        return IngestOutcome(done.document_id, path, "UNCHANGED", done.chunks, None), None
    return IngestOutcome(done.document_id, path, "PENDING", None, None), done.job_id


def _read(path: str) -> bytes:
    with contextlib.ExitStack() as stack:
        is_stdin = path == STDIN
        stream = sys.stdin.buffer if is_stdin else stack.enter_context(Path(path).open("rb"))
        content = stream.read(DOCUMENT_BYTES_MAX + 1)
    if len(content) > DOCUMENT_BYTES_MAX:
        raise UsageError(f"too_large: more than {DOCUMENT_BYTES_MAX // 1024**2} MB.")
    return content


def _await(
    submitted: Sequence[tuple[IngestOutcome, JobId | None]],
    check: Callable[[], None],
    advance: Advance,
) -> None:
    """Wait for every job, including embedding, and record the results."""
    by_job: dict[JobId, list[IngestOutcome]] = {}
    for outcome, job_id in submitted:
        if job_id is not None:
            by_job.setdefault(job_id, []).append(outcome)
    for job_id, family in follow(by_job, check):
        for outcome in by_job[job_id]:
            _note(outcome, family)
            advance()


def _note(outcome: IngestOutcome, family: Sequence[Progress]) -> None:
    done = ingested(family)
    outcome.id = done.document_id or outcome.id
    outcome.status, outcome.chunks, outcome.error = done.status, done.chunks, done.error


def _print(outcomes: Sequence[IngestOutcome], job_ids: Sequence[JobId], as_json: bool) -> None:
    if as_json:
        unique = list(dict.fromkeys(job_ids))
        print_json({"jobs": unique, "documents": [asdict(one) for one in outcomes]})
        return
    rows = [(one.status, one.chunks, one.path, one.error or "") for one in outcomes]
    print_table(("status", "chunks", "path", "error"), rows)
