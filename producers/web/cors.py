"""CORS: which pages of other origins may call the API with a key. None by default."""

import re
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from producers.web import problems
from shared.errors import ConfigurationBroken

_NAME: Final = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ORIGIN: Final = re.compile(
    rf"(https?)://(?:{_NAME}(?:\.{_NAME})*|\[[0-9a-f:.]+\])(?::([1-9][0-9]{{0,4}}))?"
)
_OWN_PORTS: Final = {("http", "80"), ("https", "443")}
_PORT_MAX: Final = 65_535

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "traceparent",
)
ANSWER_HEADERS: Final = (
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
)
KEPT_S: Final = 600


class Cors(CORSMiddleware):
    """Answers pages of other origins, and tells a refusal as every other problem."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a browser that asks before it sends a request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != HTTPStatus.BAD_REQUEST:
            return answer
        named = {
            name: value
            for name, value in answer.headers.items()
            if name not in {"content-type", "content-length"}
        }
        sentence = f"{bytes(answer.body).decode()}: AILYDIAN_WEB_CORS_ORIGINS names the origins."
        return problems.answer(HTTPStatus.BAD_REQUEST, "cors_refused", sentence, headers=named)


def origins(setting: str) -> list[str]:
    """Return the origins of a setting, each exactly as browsers send it.

    Raises:
        ConfigurationBroken: One is none: it has a wildcard, a path, capitals or its scheme's port.
    """
    given = [one.strip() for one in setting.split(",")] if setting.strip() else []
    for one in given:
        match = _ORIGIN.fullmatch(one)
        if match is None or match.groups() in _OWN_PORTS or int(match[2] or 1) > _PORT_MAX:
            raise ConfigurationBroken(
                f"AILYDIAN_WEB_CORS_ORIGINS: {one!r} is not an origin as browsers send it, such as "
                "https://console.example.org or http://localhost:3000."
            )
    return given
