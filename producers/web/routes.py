"""How the routes of the API are made: strict requests, and a problem for every error."""

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from producers.web import admission, answers, bodies, conditions, lists, parameters
from producers.web.problems import RESPONSES

# Requests that change something: they can be sent again with an Idempotency-Key.
UNSAFE: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Of texts in addresses: Postgres stores no NUL.
NO_NUL: Final = r"^[^\u0000]*$"


class _StrictRequest(Request):
    """A request whose JSON is what every door accepts, see `shared.json_values`."""

    async def json(self) -> Any:  # noqa: ANN401 - JSON
        return await bodies.parsed_aside(await self.body())


class _StrictRoute(APIRoute):
    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: Collection[str],
        dependencies: Sequence[Any] | None = None,
        **options: Any,  # noqa: ANN401 - FastAPI's own
    ) -> None:
        given = [*(dependencies or ())]
        if UNSAFE & {*methods} and not answers.OWN & {*given}:
            given.append(answers.REPEATABLE)
        super().__init__(path, endpoint, methods=[*methods], dependencies=given, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        asks_conditions = self.openapi_extra is conditions.DESCRIBED
        refuses = not asks_conditions and bool(UNSAFE & (self.methods or set()))
        named, taken = parameters.known(self.dependant), self._media_types()

        async def strict(request: Request) -> Response:
            await admission.admit(request, self.dependant)
            lists.asked.set(request.url.path)
            parameters.refuse_others(request, named)
            if taken:
                bodies.refuse_encoded(request)
                bodies.refuse_others(request, taken)
            if refuses:
                conditions.refuse(request)
            answer = await handler(_StrictRequest(request.scope, request.receive))
            return conditions.answered(request, answer)

        return strict

    def _media_types(self) -> tuple[str, ...]:
        """Return what bodies it reads, as the OpenAPI document has them; without one, none."""
        by_hand = (self.openapi_extra or {}).get("requestBody", {}).get("content", {})
        return (*by_hand,) or ((bodies.JSON,) if self.body_field else ())


def router(name: str) -> APIRouter:
    """Return the router of `/v1/<name>`."""
    return APIRouter(
        prefix=f"/v1/{name}",
        tags=[name],
        responses=RESPONSES,
        route_class=_StrictRoute,
        strict_content_type=False,  # a body is JSON where nothing else is said
    )
