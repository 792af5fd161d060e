"""Query parameters: unknown ones are refused, for a misspelt filter would act on everything."""

from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Final

from fastapi import Request
from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params

from producers.web.problems import Refused, pointer
from shared import field_errors
from shared.field_errors import NAME_CHARS_MAX

_INVALID_MAX: Final = 20  # parameters that a problem names


def known(route: Dependant) -> dict[str, bool]:
    """Return the names of the query parameters of a route, and whether each may be repeated.

    Those of its dependencies are among them, and the fields of models that the query is read as.
    """
    found = get_flat_params(Dependant(query_params=[*_of(route)]))
    return {one.alias: field_annotation_is_sequence(one.field_info.annotation) for one in found}


def _of(route: Dependant) -> Iterator[ModelField]:
    yield from route.query_params
    for one in route.dependencies:
        yield from _of(one)


def refuse_others(request: Request, names: Mapping[str, bool]) -> None:
    """Refuse a query that has other parameters, or more than one value of one that takes one.

    Args:
        request: With its query.
        names: As `known` returns them.

    Raises:
        Refused: It does (422); the problem names them, at most 20.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    found = (
        {"pointer": pointer(("query", name[:NAME_CHARS_MAX])), "detail": sentence}
        for name, count in counts.items()
        if (sentence := _fault(name, count, names)) is not None
    )
    invalid = [*islice(found, _INVALID_MAX)]  # the nearest names of thousands would take seconds
    if invalid:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            invalid[0]["detail"],
            invalid=invalid,
        )


def _fault(name: str, count: int, names: Mapping[str, bool]) -> str | None:
    if name in names:
        if count == 1 or names[name]:
            return None
        return f"The query parameter {name!r} was given {count} times: give it once."
    known_ones = field_errors.nearest(name, names, "parameters") or "; known parameters: none"
    return f"Unknown query parameter {name[:NAME_CHARS_MAX]!r}{known_ones}."
