"""The evaluator behind the proofs of our alert rules says what Prometheus would."""

import pytest

from tests.support import promql
from tests.support.promql import Scrape

FIRST = """
depth{queue="a",state="ready"} 3
depth{queue="a",state="running"} 0
depth{queue="b",state="ready"} 5
depth{queue="b",state="running"} 2
paused{queue="a"} 0
dead_total{queue="a"} 7
"""
LAST = FIRST.replace('dead_total{queue="a"} 7', 'dead_total{queue="a"} 2\ndead_total{queue="b"} 9')
SCRAPES = [Scrape.of(FIRST, 0.0), Scrape.of(LAST, 60.0)]
A, B = (("queue", "a"),), (("queue", "b"),)


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ('sum by (queue) (depth{state="ready"}) > 3', {B: 5}),
        ('sum by (queue) (depth{state=~"ready|running"})', {A: 3, B: 7}),
        ('sum by (queue) (depth{state!="ready"}) == 0', {A: 0}),
        ("max(depth)", {(): 5}),
        ('sum by (queue) (depth{state="ready"}) > 0 unless paused == 0', {B: 5}),
        ('sum by (queue) (depth{state="ready"}) > 0 and paused == 0', {A: 3}),
        ('sum by (queue) (depth{state="ready"}) > 2 * max by (queue) (paused)', {A: 3}),
        ("increase(dead_total[5m])", {A: 2}),
        ("delta(dead_total[5m])", {A: -5}),
        ("increase(dead_total[30s])", {}),
        ("absent_metric > 0", {}),
    ],
)
def test_an_expression_yields_what_prometheus_would(expr, found):
    assert promql.evaluate(expr, SCRAPES) == found


def test_the_metrics_of_an_expression_are_all_found():
    expr = "sum by (x) (increase(a[5m])) > 0.5 * (b unless c)"

    assert promql.names(expr) == {"a", "b", "c"}
