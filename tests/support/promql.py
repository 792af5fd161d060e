"""A small evaluator of PromQL: as much of it as our alert rules use, over real scrapes."""

import itertools
import operator
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

# Labels as sorted pairs: the value. The metric's name is left out, as in every result here.
Vector = dict[tuple[tuple[str, str], ...], float]

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
COUNT = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass(frozen=True)
class Scrape:
    """The samples of one answer of /metrics, and when it was taken, in seconds."""

    at_s: float
    samples: dict[str, Vector]

    @classmethod
    def of(cls, text: str, at_s: float) -> "Scrape":
        samples: dict[str, Vector] = defaultdict(dict)
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                samples[one.name][tuple(sorted(one.labels.items()))] = one.value
        return cls(at_s, dict(samples))


def evaluate(expr: str, scrapes: list[Scrape]) -> Vector:
    """What an expression yields at the last scrape; empty is false."""
    found = _of(promql_parser.parse(expr), scrapes)
    assert isinstance(found, dict), f"{expr} is a number"
    return found


def names(expr: str) -> set[str]:
    """The metrics that an expression reads."""
    return {node.name for node in _nodes(promql_parser.parse(expr)) if _kind(node) == "selector"}


def _kind(node: Any) -> str:
    return {"VectorSelector": "selector"}.get(type(node).__name__, type(node).__name__)


def _nodes(node: Any) -> list[Any]:
    below = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    below += getattr(node, "args", None) or []
    return [node, *(it for one in below if one is not None for it in _nodes(one))]


def _of(node: Any, scrapes: list[Scrape]) -> Vector | float:
    match type(node).__name__:
        case "NumberLiteral":
            return node.val
        case "ParenExpr":
            return _of(node.expr, scrapes)
        case "VectorSelector":
            return _selected(node, scrapes[-1])
        case "AggregateExpr":
            return _aggregated(node, _of(node.expr, scrapes))
        case "Call":
            return _over_time(node, scrapes)
        case "BinaryExpr":
            return _binary(node, _of(node.lhs, scrapes), _of(node.rhs, scrapes))
        case other:
            raise NotImplementedError(other)


def _selected(node: Any, scrape: Scrape) -> Vector:
    assert node.offset is None
    assert node.at is None
    return {
        labels: value
        for labels, value in scrape.samples.get(node.name, {}).items()
        if all(_matches(one, dict(labels).get(one.name, "")) for one in node.matchers.matchers)
    }


def _matches(matcher: Any, value: str) -> bool:
    match str(matcher.op).rpartition(".")[2]:
        case "Equal":
            return value == matcher.value
        case "NotEqual":
            return value != matcher.value
        case "Re":
            return re.fullmatch(matcher.value, value) is not None
        case "NotRe":
            return re.fullmatch(matcher.value, value) is None
        case other:
            raise NotImplementedError(other)


def _aggregated(node: Any, vector: Any) -> Vector:
    groups: dict[tuple[tuple[str, str], ...], list[float]] = defaultdict(list)
    if node.modifier is not None:
        assert str(node.modifier.type).endswith("By"), "only `by` is known here"
    kept = set(node.modifier.labels) if node.modifier is not None else set()
    for labels, value in vector.items():
        groups[tuple(pair for pair in labels if pair[0] in kept)].append(value)
    function = {"sum": sum, "max": max, "min": min, "count": len}[str(node.op)]
    return {labels: float(function(values)) for labels, values in groups.items()}


def _over_time(node: Any, scrapes: list[Scrape]) -> Vector:
    """`increase` and `delta` between the first and the last scrape in the range.

    Prometheus extrapolates to the edges of the range; our thresholds are about what was seen.
    """
    (matrix,) = node.args
    begin_s = scrapes[-1].at_s - matrix.range.total_seconds()
    seen = [
        _selected(matrix.vector_selector, scrape) for scrape in scrapes if scrape.at_s >= begin_s
    ]
    if len(seen) < 2:
        return {}
    # A series of one sample yields nothing, there as here.
    kept = [labels for labels in seen[-1] if any(labels in one for one in seen[:-1])]
    result = {}
    for labels in kept:
        values = [one[labels] for one in seen if labels in one]
        if node.func.name == "increase":
            steps = itertools.pairwise(values)
            result[labels] = sum(b - a if b >= a else b for a, b in steps)
        else:
            assert node.func.name == "delta", node.func.name
            result[labels] = values[-1] - values[0]
    return result


def _binary(node: Any, left: Any, right: Any) -> Vector | float:
    op = str(node.op)
    if node.modifier is not None:
        assert node.modifier.matching is None
        assert not node.modifier.return_bool
    match op:
        case "and":
            return {labels: value for labels, value in left.items() if labels in right}
        case "unless":
            return {labels: value for labels, value in left.items() if labels not in right}
        case "or":
            return right | left
    if not isinstance(left, dict) and not isinstance(right, dict):
        return float(COUNT[op](left, right))
    pairs = _pairs(left, right)
    if op in COMPARE:
        return {
            labels: a if isinstance(left, dict) else b
            for labels, (a, b) in pairs.items()
            if COMPARE[op](a, b)
        }
    return {labels: float(COUNT[op](a, b)) for labels, (a, b) in pairs.items()}


def _pairs(left: Any, right: Any) -> dict[tuple[tuple[str, str], ...], tuple[float, float]]:
    if not isinstance(left, dict):
        return {labels: (left, value) for labels, value in right.items()}
    if not isinstance(right, dict):
        return {labels: (value, right) for labels, value in left.items()}
    return {labels: (value, right[labels]) for labels, value in left.items() if labels in right}
