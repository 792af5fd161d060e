"""What /metrics says is what the tables hold, and reading it stays cheap."""

import json
import re
import threading
import time
from decimal import Decimal

import promql_parser
import pytest
import yaml

from producers.ledger import event_counters
from producers.queries.ledger import events, pauses, queue_figures
from producers.queries.ledger.pauses import Pause
from producers.queries.operations import metric_figures
from producers.web import metrics
from producers.web.pages import Pages
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from shared.models import spending
from shared.models.providers import uses
from shared.queries.ledger import dispatches, workers
from shared.queries.ledger.workers import Process
from shared.queries.models import model_uses
from tests.support import factories, pages, promql
from tests.support.factories import claim, do, make_tenant, publish_jobs, publish_probe
from tests.support.patience import patience
from tests.support.promql import Scrape
from tests.support.source_code import ROOT

MONITORING = ROOT / "producers" / "web" / "monitoring"


@pytest.fixture
def web(pool, redis_url):
    with wakeups.connect(redis_url) as client:
        found = Pages(client, Wire("ailydian", factories.KEY))
        yield found
        found.close()


@pytest.fixture
def scrape(redis_url, pool):
    """A scrape without what a page keeps for a second: each call reads anew."""

    def read(name: str, **labels: str) -> float | None:
        with wakeups.connect(redis_url) as client:
            collector = metrics.MetricsCollector(client, Wire("ailydian", factories.KEY))
            text = metrics.text(metrics.registry_of(collector)).decode()
            collector.close()
        return Scrape.of(text, 0.0).samples.get(name, {}).get(tuple(sorted(labels.items())))

    return read


def fold() -> None:
    with db.transaction(None, role=Role.RELAY) as conn:
        event_counters.fold(conn)


def test_depths_tell_what_waits_runs_and_died(scrape):
    tenant = make_tenant()
    ready, running, delayed = (publish_probe(tenant) for _ in range(3))
    claim(running)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """UPDATE "JobOutbox" SET "dueAt" = now() + interval '1 hour' WHERE "jobId" = %s""",
            [delayed],
        )
        conn.execute('UPDATE "JobFlight" SET "sentAt" = now()')

    states = ("ready", "delayed", "running", "dead")
    seen = [scrape("ailydian_queue_depth", queue="maintenance", state=one) for one in states]

    assert ready
    assert sum(seen) == 3
    assert seen[2] == 1


def test_outcomes_and_histograms_come_from_what_was_folded(scrape):
    job_id = publish_probe(make_tenant(), mode="statement")
    (lease,) = claim(job_id)
    do(lease)
    fold()

    names = {"job": "probe", "queue": "maintenance"}
    buckets = [
        scrape("ailydian_job_duration_seconds_bucket", **names, le=str(bound))
        for bound in (*events.BOUNDS_S, "+Inf")
    ]

    assert scrape("ailydian_jobs_total", **names, outcome="completed") == 1
    assert scrape("ailydian_jobs_total", **names, outcome="dead") == 0
    assert scrape("ailydian_attempts_total", **names) == 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == scrape("ailydian_job_duration_seconds_count", **names) == 1
    assert scrape("ailydian_queue_done_per_second", queue="maintenance") > 0


def test_a_kind_that_never_ran_begins_at_zero(scrape):
    names = {"job": "probe", "queue": "maintenance"}

    assert scrape("ailydian_jobs_total", **names, outcome="dead") == 0
    assert scrape("ailydian_dead_letters", queue="audit", reason="poison") == 0


def test_the_relays_lag_tells_held_and_limited_jobs_apart(scrape):
    free, held, limited = (make_tenant() for _ in range(3))
    for tenant in (free, held, limited):
        publish_probe(tenant)
    with db.transaction(None, role=Role.RELAY) as conn:
        pauses.put(conn, Pause(None, held, None), held_by="test")
        conn.execute(
            'INSERT INTO "JobLimit" ("tenantId", "concurrencyMax") VALUES (%s, 1)', [limited]
        )
        for seconds, tenant in ((10, free), (200, held), (3_000, limited)):
            conn.execute(
                """UPDATE "JobOutbox" SET "dueAt" = now() - %s * interval '1 second'
                   WHERE "tenantId" = %s""",
                [seconds, tenant],
            )

    lags = [
        scrape("ailydian_relay_lag_seconds", queue="maintenance", why=why)
        for why in ("free", "held", "limited")
    ]

    assert [round(lag, -1) for lag in lags] == [10, 200, 3_000]
    assert scrape("ailydian_queue_oldest_seconds", queue="maintenance") >= 3_000


@pytest.mark.parametrize("delayed", [0, 3, 30])
def test_a_deep_queue_is_told_by_what_the_relay_counted(pool, delayed):
    tenant = make_tenant()
    publish_jobs(tenant, [factories.Probe(n=n) for n in range(30 - delayed + 10)])
    if delayed:
        jobs = [factories.Probe(n=100 + n) for n in range(delayed)]
        publish_jobs(tenant, jobs, delay_s=3_600.0)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute(
            """INSERT INTO "QueueState" ("queue", "depth") VALUES ('maintenance', 40)
               ON CONFLICT ("queue") DO UPDATE SET "depth" = 40"""
        )
        (exact,) = queue_figures.select_figures(conn, ["maintenance"], rate_s=1.0)
        (deep,) = queue_figures.select_figures(conn, ["maintenance"], rate_s=1.0, counted_max=10)

    assert (exact.ready, exact.delayed) == (40 - delayed, delayed)
    assert (deep.ready, deep.delayed) == (exact.ready, exact.delayed)


def test_dollars_and_tokens_reach_the_table_once(scrape):
    uses.take()
    uses.note("text-embedding-3-small", 500_000)
    uses.note("text-embedding-3-small", 500_000)
    uses.note("use-multilingual", 7)

    told = spending.flush()
    again = spending.flush()

    assert (told, again) == (1_000_007, 0)
    with db.transaction(None, role=Role.RELAY) as conn:
        totals = {use.model: use for use in model_uses.select_totals(conn)}
    assert totals["text-embedding-3-small"].requests == 2
    assert totals["text-embedding-3-small"].cost_usd == Decimal("0.02")
    assert (totals["use-multilingual"].cost_usd, totals["use-multilingual"].unpriced) == (None, 1)
    assert scrape("ailydian_tokens_total", model="use-multilingual") == 7
    assert scrape("ailydian_cost_usd_total", model="use-multilingual") is None
    assert scrape("ailydian_cost_usd_total", model="text-embedding-3-small") == 0.02


def test_what_could_not_be_told_is_told_the_next_time(pool):
    uses.take()
    uses.note("m", 3)
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('ALTER TABLE "ModelUse" RENAME TO "Elsewhere"')

    with pytest.raises(db.psycopg.errors.UndefinedTable):
        spending.flush()
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('ALTER TABLE "Elsewhere" RENAME TO "ModelUse"')

    assert spending.flush() == 3


def test_an_answer_says_what_it_cost():
    told = b'{"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}'

    assert uses.tokens_of(told, estimate=20) == 8
    assert uses.tokens_of(b'{"data": []}', estimate=20) == 20


def test_scrapes_of_one_second_ask_postgres_once(web):
    publish_probe(make_tenant())
    first = web.metrics()
    publish_probe(make_tenant())

    second = web.metrics()

    assert first == second


def test_a_ledger_that_hangs_is_told_in_time_and_asked_once(web, database_url):
    with db.psycopg.connect(database_url) as conn:
        conn.execute('LOCK TABLE "JobStat"')
        began = time.monotonic()
        pages = [web.metrics()[2]]
        web._figures._read_at = -1e9
        pages.append(web.metrics()[2])
        took_s = time.monotonic() - began
        backends = conn.execute(
            "SELECT FROM pg_locks WHERE NOT granted AND relation = '\"JobStat\"'::regclass"
        ).fetchall()

    assert all(b"ailydian_postgres_up 0.0" in page for page in pages)
    assert all(b"ailydian_redis_up 1.0" in page for page in pages)
    assert took_s < patience(3 * metrics.PATIENCE_S)
    assert len(backends) == 1


QUERIES = {
    "figures": lambda conn: queue_figures.select_figures(conn, QUEUES, rate_s=1.0, counted_max=10),
    "lags": lambda conn: queue_figures.select_lags(conn, QUEUES),
    "leases": metric_figures.count_leases,
    "dead": lambda conn: metric_figures.count_dead(conn, list(QUEUES)),
    "quarantined": lambda conn: metric_figures.count_quarantined(conn, list(QUEUES)),
    "open": metric_figures.count_open,
}


def test_no_figure_reads_the_ledger_from_end_to_end(pool):
    tenant = make_tenant()
    publish_jobs(tenant, [factories.Probe(n=n) for n in range(2_000)])
    claim(publish_probe(tenant))
    large = {"Job", "JobOutbox", "DeadLetter", "Quarantine", "JobEvent"}

    broken = []
    for name, ask in QUERIES.items():
        with db.transaction(None, role=Role.RELAY) as conn:
            conn.execute("ANALYZE")
            asked = []
            execute = conn.execute
            conn.execute = lambda *given, asked=asked, execute=execute: (
                asked.append(given) or execute(*given)
            )
            ask(conn)
            conn.execute = execute
            statement, *values = asked[0]
            plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN {statement}", *values))
        broken += [
            f"{name}: {line.strip()}"
            for line in plan.splitlines()
            if (found := re.search(r'Seq Scan on "?(\w+)"?', line)) and found[1] in large
        ]

    assert broken == []


def test_each_metric_of_the_dashboard_and_the_rules_is_in_a_scrape(web):
    uses.note("gpt-4.1-mini", 1)
    spending.flush()
    with db.transaction(None, role=Role.RELAY) as conn:
        workers.upsert_process(conn, Process("w", "here", 1, "worker", QUEUES, 4), {})
        dispatches.measure_depth(conn, list(QUEUES), depth_max=10)
    names = Scrape.of(web.metrics()[2].decode(), 0.0).samples.keys() - {"ailydian_up"}
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    board = json.loads((MONITORING / "dashboard.json").read_text())
    panels = [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    exprs = [rule["expr"] for rule in rules] + panels

    asked = {name: expr for expr in exprs for name in promql.names(expr)}

    assert len(asked) > 25
    assert {expr for name, expr in asked.items() if name not in names} == set()
    shown = {
        name for expr in panels for name in promql.names(expr.replace("$__rate_interval", "1m"))
    }
    whole = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names if "created" not in name}
    assert {one for one in whole if not any(it.startswith(one) for it in shown)} == set()


def test_each_rule_says_who_is_woken_up_and_what_to_do_first():
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        promql_parser.parse(rule["expr"])
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"page", "warn"}
        page, _, anchor = rule["annotations"]["runbook"].rpartition(" ")[2].partition("#")
        assert anchor in pages.anchors((ROOT / page).read_text()), rule["alert"]


def test_pages_are_answered_to_several_clients_at_once(web):
    pages = []
    threads = [threading.Thread(target=lambda: pages.append(web.metrics()[2])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(pages)) == 1
