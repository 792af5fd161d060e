"""/v1/runs/ID/text: what models write for a run, while they write it, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Header, Path, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.json_rows import text as json_text
from producers.queries.workflow.workflow_runs import RunRow
from producers.web import routes
from producers.web.access import Acting, needs
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from producers.workflow import run_view
from shared import db
from shared.ids import TenantId
from shared.workflow.live_texts import FIRST, LiveTexts, TextPiece

router = routes.router("runs")

EVENTS: Final = "text/event-stream"
LOOK_S: Final = 0.1
STATE_S: Final = 0.5
HEARTBEAT_S: Final = 15.0
READ_S_MAX: Final = 600.0
READERS_MAX: Final = 100  # of a process


class TextStream(StreamingResponse):
    """Server-sent events."""

    media_type = EVENTS


@dataclass(slots=True)
class _Readers:
    """How many read; counted by one thread, the event loop's."""

    count: int = 0


_READERS: Final = _Readers()


@dataclass(slots=True)
class _Following:
    """A reader of a run, and what it has been told.

    Attributes:
        after: The id of the piece that it goes on after.
        told: Attempt and number of the last piece, by step.
    """

    tenant_id: TenantId
    slug: str
    run_id: str
    texts: LiveTexts
    after: str
    told: dict[str, tuple[int, int]] = field(default_factory=dict)

    def find(self) -> RunRow:
        """Return the run. Blocks."""
        with db.transaction(self.tenant_id) as conn:
            return run_view.find(conn, self.run_id, self.slug)

    def pieces(self) -> list[str]:
        """Return the next pieces as events. Blocks."""
        events = []
        for piece_id, piece in self.texts.read(self.run_id, self.after):
            self.after = piece_id
            if piece is None:
                continue
            before = self.told.get(piece.step, (piece.attempt, 0))
            if (piece.attempt, piece.number) <= before:
                continue  # of an attempt that was given up, or told again by who can write there
            if piece.attempt > before[0]:
                events.append(_event("restart", _named(piece), piece_id))
            self.told[piece.step] = (piece.attempt, piece.number)
            events.append(_event("text", _named(piece) | {"text": piece.text}, piece_id))
        return events


@router.get(
    "/{run_id}/text",
    response_class=TextStream,
    responses={200: {"content": {EVENTS: {"schema": {"type": "string"}}}}},
)
def follow_run_text(
    request: Request,
    run_id: Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id of a run.")],
    acting: Annotated[Acting, needs(Scope.RUNS_READ)],
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}-[0-9]{1,15}$"),
    ] = None,
) -> TextStream:
    """Stream what models write for a run, and its output at the end.

    Events: `text` {step, attempt, text}; `restart` {step, attempt}: a later attempt of the step
    begins its text again; `end` {state, output, error}, which is what counts. Text comes before
    moderation has judged it. Who reads from the start of the run misses nothing; who comes when a
    model has answered gets the output. After ten minutes the stream ends: ask again.
    """
    texts = LiveTexts(request.app.state.redis, request.app.state.wire)
    slug = tenants.slug_of(acting.tenant)
    following = _Following(acting.tenant, slug, run_id, texts, last_event_id or FIRST)
    run = following.find()
    if _READERS.count >= READERS_MAX:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "readers_busy",
            f"{READERS_MAX} readers follow runs of this server: ask again.",
            {"Retry-After": "5"},
        )
    if run.state in run_view.LIVE:
        texts.follow(run_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return TextStream(_events(following), headers=headers)


async def _events(following: _Following) -> AsyncIterator[str]:
    _READERS.count += 1
    try:
        began = told_at = time.monotonic()
        state_at = -STATE_S
        run: RunRow | None = None
        yield ": follows\n\n"
        while run is None and time.monotonic() - began < READ_S_MAX:
            now = time.monotonic()
            if now - state_at >= STATE_S:
                state_at = now
                found = await run_in_threadpool(following.find)
                run = None if found.state in run_view.LIVE else found
            # After the state: what was written before the end comes before the end.
            while events := await run_in_threadpool(following.pieces):
                told_at = now
                for event in events:
                    yield event
            if now - told_at >= HEARTBEAT_S:
                told_at = now
                yield ": waits\n\n"
            if run is None:
                await asyncio.sleep(LOOK_S)
        if run is not None:
            ended = {"state": run.state, "output": run.output, "error": run.error}
            yield _event("end", ended)
    finally:
        _READERS.count -= 1


def _named(piece: TextPiece) -> dict[str, Any]:
    return {"step": piece.step, "attempt": piece.attempt}


def _event(name: str, document: dict[str, Any], event_id: str | None = None) -> str:
    numbered = "" if event_id is None else f"id: {event_id}\n"
    return f"{numbered}event: {name}\ndata: {json_text(document)}\n\n"
