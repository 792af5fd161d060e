"""How the routes of the API are made: strict JSON, and a problem for every error."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from producers.web import bodies
from producers.web.problems import RESPONSES

# Of texts in addresses: Postgres stores no NUL.
NO_NUL: Final = r"^[^\u0000]*$"


class Strict(BaseModel):
    """A body that may have the fields of its model and no others."""

    model_config = ConfigDict(extra="forbid")


class _StrictRequest(Request):
    """A request whose JSON is what every door accepts, see `shared.json_values`."""

    async def json(self) -> Any:  # noqa: ANN401 - JSON
        return bodies.parsed(await self.body())


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


def router(name: str) -> APIRouter:
    """Return the router of `/v1/<name>`."""
    return APIRouter(
        prefix=f"/v1/{name}", tags=[name], responses=RESPONSES, route_class=_StrictRoute
    )
