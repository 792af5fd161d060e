"""/v1/runs/ID/text: what models write for a run, while they write it, as server-sent events."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Header, Path, Request
from fastapi.responses import Response, StreamingResponse

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.queries.workflow.workflow_runs import RunRow
from producers.web import routes
from producers.web.access import Acting, needs
from producers.web.open_streams import MEDIA_TYPE, OpenStream, StreamHub, frame, joined
from producers.web.routes import NO_NUL
from producers.workflow import run_view
from shared import db
from shared.errors import RunNotFound
from shared.ids import TenantId
from shared.workflow.live_texts import FIRST, LiveTexts, TextPiece

router = routes.router("runs")

# Threads of a process that read for all its readers: a Redis that hangs keeps no others waiting.
READ_AT_ONCE: Final = 4
# Between two looks: a part of the time in which nothing came, within these bounds.
QUIET_PART: Final = 0.25
TEXT_S: Final = (0.1, 0.5)
STATE_S: Final = (0.5, 3.0)
READ_S_MAX: Final = 600.0
Found = TypeVar("Found")


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

    def look(self) -> RunRow | None:
        """Return the run if it has ended; else workers tell its text for a while. Blocks."""
        run = self.find()
        if run.state not in run_view.LIVE:
            return run
        self.texts.follow(self.run_id)
        return None

    def pieces(self) -> list[bytes]:
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
                events.append(frame("restart", _named(piece), piece_id))
            self.told[piece.step] = (piece.attempt, piece.number)
            events.append(frame("text", _named(piece) | {"text": piece.text}, piece_id))
        return events


class TextStream(OpenStream):
    """The stream of a run's text; it ends with the run."""

    scope_needed = Scope.RUNS_READ
    process_max = 100
    tenant_max = 25
    _has_more = True

    def __init__(
        self, hub: StreamHub, acting: Acting, following: _Following, threads: CapacityLimiter
    ) -> None:
        super().__init__(hub, acting)
        self._following = following
        self._threads = threads
        self._began = self._told_at = time.monotonic()
        self._looked_at = -math.inf
        self._begun = False

    async def _serve(self) -> None:
        """Look once for news, and wait a while."""
        now = time.monotonic()
        run = None
        if now - self._looked_at >= _pause_s(now - self._told_at, *STATE_S):
            self._looked_at = now
            try:
                run = await self._aside(self._following.look)
            except RunNotFound:  # it was deleted meanwhile
                self._ending = True
                return
        if not self._begun:
            self._begun = True
            await self._write(b": follows\n\n")
        # After the state: what was written before the end comes before the end.
        while events := await self._aside(self._following.pieces):
            self._told_at = now
            for some in joined(events):
                await self._write(some)
        if run is not None:
            ended = {"state": run.state, "output": run.output, "error": run.error}
            await self._write(frame("end", ended))
        if run is not None or now - self._began >= READ_S_MAX:
            self._ending = True
        else:
            await asyncio.sleep(_pause_s(now - self._told_at, *TEXT_S))

    async def _aside(self, read: Callable[[], Found]) -> Found:
        return await to_thread.run_sync(read, limiter=self._threads)


@router.get(
    "/{run_id}/text",
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
def follow_run_text(
    request: Request,
    run_id: Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id of a run.")],
    acting: Annotated[Acting, needs(Scope.RUNS_READ)],
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}-[0-9]{1,15}$"),
    ] = None,
) -> Response:
    """Stream what models write for a run, and its output at the end.

    Events: `text` {step, attempt, text}; `restart` {step, attempt}: a later attempt of the step
    begins its text again; `end` {state, output, error}, which is what counts. Text comes before
    moderation has judged it. Who reads from the start of the run misses nothing; who comes later
    gets its newest 2,000 pieces, and the output. After ten minutes the stream ends: ask again.
    """
    state = request.app.state
    texts = LiveTexts(state.redis, state.wire)
    slug = tenants.slug_of(acting.tenant)
    following = _Following(acting.tenant, slug, run_id, texts, last_event_id or FIRST)
    following.find()
    return TextStream(state.streams, acting, following, state.reading_texts)


def _pause_s(quiet_s: float, least_s: float, most_s: float) -> float:
    return min(most_s, max(least_s, quiet_s * QUIET_PART))


def _named(piece: TextPiece) -> dict[str, Any]:
    return {"step": piece.step, "attempt": piece.attempt}
