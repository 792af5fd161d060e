"""`jobs why`: the history of a job as text, in chronological order."""

from collections.abc import Iterable

import click

from producers.cli.terminal.output import print_fields
from producers.ledger.job_history import JobHistory, at_text, publisher
from producers.queries.ledger.job_history import Descendant, Origin
from shared.observability import tracing
from shared.queries.ledger.attempts import AttemptRow

MEGABYTE = 1 << 20


def render(history: JobHistory) -> None:
    """Print a history in chronological order."""
    row, origin = history.row, history.origin
    print_fields(
        {"id": row.id, "job": row.job, "queue": row.queue, "tenant": row.tenant}
        | {"state": row.state, "payload": row.payload}
    )
    click.echo(f"\n{at_text(row.created_at)}  published by {publisher(history)}")
    for detail in _circumstances(origin):
        click.echo(f"{'':21}{detail}")
    lines = [(one.ended_at, _attempt(one)) for one in history.attempts_made]
    lines += [(one.at, f"{one.action} by {one.actor or 'somebody'}") for one in history.acts]
    if row.due_at > row.created_at and not lines:
        lines.append((row.due_at, "due"))
    if row.started_at and row.state in {"RUNNING", "COMPLETED"}:
        began = f"attempt {row.attempt} of {row.attempts_max} began on {row.worker}"
        lines.append((row.started_at, began))
    if row.finished_at:
        lines.append((row.finished_at, _end(history)))
    for at, sentence in sorted(lines, key=lambda one: one[0]):
        click.echo(f"{at_text(at)}  {sentence}")
    if history.waits:
        click.echo(f"waits {history.waits}")
    for line in _tree(history.descendants, row.id):
        click.echo(line)


def _circumstances(origin: Origin) -> Iterable[str]:
    trace = tracing.read(origin.traceparent)
    if trace is not None:
        yield f"trace {trace.trace_id}"
    if origin.batch_id:
        yield f"batch {origin.batch_id} ({origin.batch or 'gone'})"
    if origin.priority:
        yield f"priority {origin.priority}"
    if origin.limit_key:
        yield f"counted by limits under {origin.limit_key!r}, at a cost of {origin.cost}"


def _attempt(one: AttemptRow) -> str:
    took = f" after {one.took_seconds:.3f} s" if one.took_seconds is not None else ""
    notes = [
        one.signal and f"signal {one.signal}",
        f"exit code {one.exit_code}" if one.exit_code is not None else None,
        f"peak {one.peak_bytes / MEGABYTE:,.0f} MB" if one.peak_bytes else None,
    ]
    noted = "".join(f", {note}" for note in notes if note)
    error = f"{one.error_type or ''} {one.error or ''}".strip()
    where = one.worker or "a worker"
    return f"attempt {one.attempt} {one.verdict} on {where}{took}{noted}: {error}"


def _end(history: JobHistory) -> str:
    row = history.row
    took = ""
    if row.state == "COMPLETED" and row.started_at and row.finished_at:
        took = f" after {(row.finished_at - row.started_at).total_seconds():.3f} s"
    outcome = f": {row.outcome}" if row.outcome else ""
    reason = f" ({history.letter.reason})" if history.letter else ""
    return f"{row.state.lower()}{took}{outcome}{reason}"


def _tree(descendants: list[Descendant], root: str, indent: str = "") -> Iterable[str]:
    for one in descendants:
        if one.parent_id == root:
            error = f": {one.error}" if one.error else ""
            yield f"{indent}led to {one.job} {one.id} {one.state.lower()}{error}"
            yield from _tree(descendants, one.id, indent + "  ")
