"""What a request may be: its body's bytes, its one host, and text that Postgres can store."""

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException

from producers.documents.submission import DOCUMENT_BYTES_MAX
from producers.web import problems

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
# Of a login, which nobody is known for yet: an address and a password, each character escaped.
LOGIN_BYTES_MAX: Final = 16 * 1024
# Of an upload, a file with its form: the file itself is bounded where it is received.
UPLOAD_BYTES_MAX: Final = DOCUMENT_BYTES_MAX + 128 * 1024


class _TooLarge(HTTPException):
    """More came than a body may have. FastAPI lets no other kind of error out of reading one."""

    code = "body_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body must be at most {most:,} bytes.",
            {"Connection": "close"},
        )


class BodyBounds:
    """Refuses what no route can answer, and a body that is too large before and while it comes."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            sentence = "The address has a NUL character."
            await _refuse(sentence, scope, receive, send)
            return
        hosts = sum(name == b"host" for name, _ in scope["headers"])
        if hosts > 1 or (hosts == 0 and scope["http_version"] == "1.1"):
            await _refuse("A request needs one header Host.", scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        most = _bytes_max(scope, headers.get(b"content-type", b""))
        came = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise _TooLarge(most)  # answered as any error of a route
            return message

        if length.isdigit() and int(length) > most:
            refused = problems.of_http(_TooLarge(most))
            await refused(scope, receive, send)
        else:
            await self._app(scope, bounded, send)


async def _refuse(sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    refused = problems.answer(HTTPStatus.BAD_REQUEST, "invalid_request", sentence)
    await refused(scope, receive, send)


def _bytes_max(scope: Scope, content_type: bytes) -> int:
    if scope["path"] == "/v1/sessions":
        return LOGIN_BYTES_MAX
    is_upload = scope["path"] == "/v1/documents" and content_type.lower().startswith(b"multipart/")
    return UPLOAD_BYTES_MAX if is_upload else BODY_BYTES_MAX
