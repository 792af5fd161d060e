"""Who may not ask is told so before a byte of the body is read."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import solve_dependencies
from fastapi.exceptions import RequestValidationError

Check = Callable[..., Coroutine[Any, Any, Any]]

_FIRST: Final = "ailydian_first"


def first(check: Check) -> Check:
    """Let a dependency of routes be asked before the body is read, and once for each request."""

    @wraps(check)
    async def asked(request: Request, **given: Any) -> Any:  # noqa: ANN401 - as the dependency has
        found: dict[Check, Any] = request.scope.setdefault(_FIRST, {})
        if asked not in found:
            found[asked] = await check(request, **given)
        return found[asked]

    setattr(asked, _FIRST, True)
    return asked


async def admit(request: Request, route: Dependant) -> None:
    """Ask what a route asks first.

    Raises:
        RequestValidationError: The address of the request is invalid.
    """
    for one in route.dependencies:
        if not hasattr(one.call, _FIRST):
            continue
        solved = await solve_dependencies(
            request=request,
            dependant=one,
            async_exit_stack=request.scope["fastapi_inner_astack"],
            embed_body_fields=False,
        )
        if solved.errors:
            raise RequestValidationError(solved.errors)
        assert one.call is not None, "it has a mark"
        await one.call(**solved.values)
