"""/v1/events: what happens, as it happens."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from producers.accounts.scopes import Scope
from producers.queries.ledger.events import BEGINNING, SUBJECTS, EventFilters, Position
from producers.web import routes
from producers.web.access import Acting, needs
from producers.web.event_streams import LiveStream
from producers.web.open_streams import MEDIA_TYPE
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from producers.web.streams import Streams

router = routes.router("events")

_TYPES: Final = f"({'|'.join(SUBJECTS)})"


class EventQuery(BaseModel):
    """Which events; unset means any."""

    model_config = ConfigDict(extra="ignore")

    types: str | None = Field(
        None,
        max_length=100,
        pattern=f"^{_TYPES}(,{_TYPES})*$",
        description="What they are of: job, batch, run, step, incident, by comma.",
        examples=["run,step"],
    )
    id: str | None = Field(
        None,
        max_length=200,
        pattern=NO_NUL,
        description="Of this job, batch with its jobs, run with its steps, step or incident.",
    )
    after: str | None = Field(
        None,
        max_length=40,
        pattern=NO_NUL,
        description="Resume after this position; 0 is the oldest stored event; unset: from now on.",
        examples=["812-3"],
    )


@router.get(
    "",
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
async def stream_events(
    request: Request,
    acting: Annotated[Acting, needs(Scope.EVENTS_READ)],
    which: Annotated[EventQuery, Query()],
    last_event_id: Annotated[
        str | None,
        Header(max_length=40, description="The id that was read last; goes before `after`."),
    ] = None,
) -> Response:
    """Stream events as server-sent events until the client leaves.

    The first tells where the stream begins: `ready`, or `reset` where events after the position
    asked for are not kept any more. The others have the fields that `ailydian events` prints.
    """
    subjects = None if which.types is None else frozenset(which.types.split(","))
    after = _position(last_event_id or which.after)
    streams: Streams = request.app.state.streams
    return LiveStream(streams, acting, EventFilters(any_id=which.id, subjects=subjects), after)


def _position(text: str | None) -> Position | None:
    if text is None:
        return None
    try:
        return BEGINNING if text == "0" else Position.parse(text)
    except ValueError as error:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_position", f"{str(error).capitalize()}."
        ) from None
