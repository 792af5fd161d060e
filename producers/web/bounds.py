"""What a request may weigh: bodies, and text that Postgres could not store."""

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from producers.web import problems

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_BYTES_MAX: Final = 16 * 1024 * 1024


class _TooLarge(Exception):
    """More came than a body may have."""


class BodyBounds:
    """Refuses a body that is too large, before and while it comes."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            sentence = "The address has a NUL character."
            refused = problems.answer(HTTPStatus.BAD_REQUEST, "invalid_request", sentence)
            await refused(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        came = 0
        begun = False

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > BODY_BYTES_MAX:
                raise _TooLarge
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if length.isdigit() and int(length) > BODY_BYTES_MAX:
                raise _TooLarge
            await self._app(scope, bounded, noted)
        except _TooLarge:
            if begun:
                raise
            sentence = f"The body must be at most {BODY_BYTES_MAX:,} bytes."
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            refused = problems.answer(
                status, "body_too_large", sentence, headers={"Connection": "close"}
            )
            await refused(scope, receive, send)
