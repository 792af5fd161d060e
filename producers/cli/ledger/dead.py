"""The `dead` commands: dead letters."""

from typing import Any

import click

from producers.cli.ledger import selection
from producers.cli.ledger.selection import (
    ALL,
    CHOICE,
    DRY_RUN,
    FILTERS,
    IDS,
    LIMIT,
    OF_JOBS,
    PACE,
    options,
    regex_told,
)
from producers.cli.terminal import session
from producers.cli.terminal.output import (
    error_line,
    json_option,
    print_fields,
    print_json,
    print_table,
)
from producers.cli.terminal.values import DURATION, JOB, JSON_OBJECT, QUEUE
from producers.json_rows import as_document
from producers.ledger import dead_actions, dead_edit, dead_selection
from producers.ledger.dead_actions import CanaryTrial, Move
from producers.ledger.dead_selection import DeadLetterSelection, regex_checked
from producers.queries.ledger import dead_letters, replays
from shared import db
from shared.db import Role

MEGABYTE = 1 << 20


@click.group()
def dead() -> None:
    """Manage dead letters: jobs that failed and need an operator."""


@dead.command("list")
@options(json_option, LIMIT, *FILTERS, *OF_JOBS)
@click.option("--grouped", is_flag=True, help="Group by failure, most frequent first.")
def list_dead(limit: int, grouped: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """List dead jobs by time of death, or grouped by failure."""
    select = dead_letters.select_groups if grouped else dead_letters.select_dead
    with session.opened():
        wanted = selection.read_filters(given)
        with (
            regex_told(),
            db.transaction(None, role=Role.RELAY) as conn,
            regex_checked(conn, wanted.error),
        ):
            documents = [as_document(row) for row in select(conn, wanted, limit=limit)]
    if as_json:
        print_json(documents)
        return
    columns = {
        True: ("fingerprint", "count", "job", "tenants", "firstDiedAt", "lastDiedAt", "error"),
        False: ("id", "job", "queue", "tenant", "attempts", "reason", "diedAt", "error"),
    }[grouped]
    shown = [document | {"error": error_line(document)} for document in documents]
    print_table(columns, [[document[name] for name in columns] for document in shown])


@dead.command("show")
@click.argument("job_id", metavar="ID")
@json_option
def show_dead(job_id: str, as_json: bool) -> None:
    """Show a dead job: its payload, and every attempt with its traceback."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        found = dead_edit.read(conn, job_id)
    document, history = found.document(), [as_document(one) for one in found.history]
    if as_json:
        print_json(document | {"history": history})
        return
    print_fields(document)
    for attempt in history:
        click.echo("\n" + _attempt_text(attempt))
        click.echo((attempt["traceback"] or "").rstrip())


@dead.command("edit")
@click.argument("job_id", metavar="ID")
@click.option(
    "--payload", type=JSON_OBJECT, required=True, help="The complete new payload, or @FILE."
)
@json_option
def edit_dead(job_id: str, payload: dict[str, Any], as_json: bool) -> None:
    """Edit a dead job's payload, to replay it afterwards. Its contract validates the payload.

    The job keeps its id and its idempotency key. The change, its author and its time are stored
    with the dead letter and in the audit log.
    """
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        changes = dead_edit.edit(conn, job_id, payload)
    if as_json:
        print_json({"id": job_id, "edited": bool(changes), "changes": changes})
    elif changes:
        click.echo(
            f"Changed: {', '.join(changes)}. Replay it with `ailydian dead replay {job_id}`."
        )
    else:
        click.echo("Nothing to change: the payload is identical.")


@dead.command("replay")
@options(PACE, *CHOICE, *OF_JOBS)
@click.option(
    "--canary",
    type=click.IntRange(1, dead_selection.PAGE),
    metavar="N",
    help="Replay N jobs first; continue only if they succeed.",
)
@click.option(
    "--canary-wait",
    type=DURATION,
    default="60s",
    show_default=True,
    help="Time limit of the canary jobs.",
)
@click.option(
    "--stop-if-failing",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Stop if more than P % of the replayed jobs fail; needs --rate or --canary.",
)
def replay_dead(
    canary: int | None,
    canary_wait: float,
    stop_if_failing: float | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Replay dead jobs; attempts restart from one, old attempts stay visible.

    Select jobs by ids or filters. Repeating the command replays a job only once. With --canary,
    the first N jobs must succeed before the others follow. `dead undo` reverts unstarted replays.
    """
    if stop_if_failing is not None and canary is None and given["rate"] is None:
        raise click.UsageError("--stop-if-failing needs --rate or --canary.")
    trial = None
    if canary is not None or stop_if_failing is not None:
        share = None if stop_if_failing is None else stop_if_failing / 100
        trial = CanaryTrial(canary, share, canary_wait)
    with session.opened():
        choice = selection.read(given)
        matched, done = _act(dead_letters.replay, "replay", choice, trial)
    _report(matched, "replayed", done, as_json, dry_run=choice.dry_run)


@dead.command("discard")
@options(PACE, *CHOICE, *OF_JOBS)
def discard_dead(as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Discard dead jobs: they become CANCELLED and keep their error."""
    with session.opened():
        choice = selection.read(given)
        matched, done = _act(dead_letters.discard, "discard", choice)
    _report(matched, "discarded", done, as_json, dry_run=choice.dry_run)


@dead.command("undo")
@options(json_option, DRY_RUN, ALL, IDS)
@click.option("--queue", type=QUEUE, help="Only this queue.")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant.")
@click.option("--job", type=JOB, help="Only this kind of job.")
def undo_replay(
    ids: tuple[str, ...], every: bool, dry_run: bool, as_json: bool, **filters: str | None
) -> None:
    """Undo a replay: jobs not started yet become dead letters again."""
    selection.refuse_no_choice(ids, every, filters)
    with session.opened():
        slug = filters.pop("slug")
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.RELAY) as conn:
            unbegun = replays.select_unbegun(conn, tenant_id=tenant_id, **filters)
        chosen = [one for one in unbegun if not ids or one in ids]
        done = 0
        for start in range(0, 0 if dry_run else len(chosen), dead_selection.PAGE):
            page = chosen[start : start + dead_selection.PAGE]
            done += len(dead_actions.move_page(replays.undo, "undo", page, {}))
    _report(len(chosen), "undone", done, as_json, dry_run=dry_run)


def _act(
    move: Move, verb: str, choice: DeadLetterSelection, trial: CanaryTrial | None = None
) -> tuple[int, int]:
    with (
        selection.progress(verb.title(), lambda: dead_selection.count(choice)) as advance,
        regex_told(),
    ):
        return dead_actions.act(move, verb, choice, trial, advance)


def _report(matched: int, verb: str, done: int, as_json: bool, *, dry_run: bool) -> None:
    if as_json:
        print_json({"matched": matched, verb: done} | ({"dryRun": True} if dry_run else {}))
    elif done or dry_run:
        click.echo(f"{matched} matched, {done} {verb}.")
    else:
        why = "they changed meanwhile" if matched else "no such job is there"
        click.echo(f"{matched} matched, {done} {verb}: nothing was changed, {why}.")


def _attempt_text(attempt: dict[str, Any]) -> str:
    """Format an attempt's head line; unknown values are left out."""
    took, peak, code = attempt["tookSeconds"], attempt["peakBytes"], attempt["exitCode"]
    ended = f"{attempt['endedAt']:%Y-%m-%d %H:%M:%S}"
    facts = [
        f"attempt {attempt['attempt']}, {attempt['verdict']} {ended}",
        None if took is None else f"after {took:.2f} s",
        attempt["worker"] and f"on {attempt['worker']}",
        attempt["signal"] and f"by {attempt['signal']}",
        None if code is None else f"exit code {code}",
        None if peak is None else f"peak {peak / MEGABYTE:.0f} MB",
        attempt["fingerprint"] and f"like {attempt['fingerprint']}",
    ]
    head = ", ".join(fact for fact in facts if fact)
    return f"{head}\n{attempt['errorType'] or ''}: {attempt['error'] or ''}"
