"""One price list: everything costs what the catalogue says, and what it does not say is unknown."""

import json
import os
import subprocess
import sys
from decimal import Decimal

import pytest
from click.testing import CliRunner

from producers.cli import main
from producers.models import catalogue
from producers.web import metrics
from shared import db
from shared.db import Role
from shared.ledger import wakeups
from shared.ledger.wakeups import Wire
from shared.models import spending
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.messages import semantic_entries
from shared.queries.models.models import NewModel, Price
from tests.integration.workflow.test_complete_step import ASKED
from tests.support import factories
from tests.support.factories import environment, rows
from tests.support.patience import patience
from tests.support.promql import Scrape
from tests.support.steps import do_step
from tests.support.stub_openai import StubOpenAI
from tests.support.stub_site import StubSite, answer

OURS = "acme-llm-7b"
PASSAGE = {"chunkId": "c", "documentId": "d", "content": "Backups are kept for thirty days."}


@pytest.fixture
def site():
    """A server of one's own that serves one model, without a key."""
    with (
        StubSite() as site,
        environment(OPENAI_BASE_URL=f"{site.url}/v1", AILYDIAN_OPENAI_COMPLETION_MODEL=OURS),
    ):
        yield site


def replied():
    usage = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
    choices = [{"index": 0, "message": {"content": "Thirty."}, "finish_reason": "stop"}]
    return answer(json.dumps({"model": OURS, "choices": choices, "usage": usage}).encode())


def put(slug, cost_in, cost_out, provider="local"):
    """Set a price as `ailydian models put` does."""
    new = NewModel(slug, provider, slug, 8_192, Decimal(cost_in), Decimal(cost_out), ["completion"])
    with db.transaction(None, role=Role.OWNER) as conn:
        catalogue.put_model(conn, new)


def figures(tenant):
    with db.transaction(tenant) as conn:
        (found,) = semantic_entries.select_figures(conn)
    return found


def used(model=OURS):
    """What is kept once this process has told it, as workers do with their heartbeat."""
    spending.flush()
    return kept(model)


def kept(model):
    query = """SELECT "requests", "tokens", "costUsd", "unpriced" FROM "ModelUse"
               WHERE "model" = %s"""
    return rows(query, model)


def scraped(redis_url, name, model=OURS):
    with wakeups.connect(redis_url) as client:
        collector = metrics.MetricsCollector(client, Wire("ailydian", factories.KEY))
        text = metrics.text(metrics.registry_of(collector)).decode()
        collector.close()
    return Scrape.of(text, 0.0).samples.get(name, {}).get((("model", model),))


def test_a_model_of_ones_own_costs_what_the_catalogue_says_everywhere(acme, site, redis_url):
    put(OURS, "0.0005", "0.003")
    site.answers.append(replied())

    paid, free = (do_step("complete", {"prompt": ASKED}, acme) for _ in range(2))

    assert (paid["model"], paid["costUsd"], free["costUsd"]) == (OURS, "0.0008", "0")
    found = figures(acme)
    assert (found.cost_usd, found.saved_usd, found.unpriced) == (
        *(Decimal("0.0008"), Decimal("0.0008")),
        0,
    )
    assert used() == [(1, 1_100, Decimal("0.0008"), 0)]
    assert scraped(redis_url, "ailydian_cost_usd_total") == 0.0008
    assert scraped(redis_url, "ailydian_model_unpriced_requests_total") == 0


def test_a_changed_price_holds_from_the_next_answer_on(acme, site):
    site.answers += [replied(), replied()]
    put(OURS, "0.0005", "0.003")
    before = do_step("complete", {"prompt": ASKED, "cache": False}, acme)
    assert used() == [(1, 1_100, Decimal("0.0008"), 0)]

    put(OURS, "0.001", "0.003")
    after = do_step("complete", {"prompt": ASKED, "cache": False}, acme)

    assert (before["costUsd"], after["costUsd"]) == ("0.0008", "0.0013")
    assert used() == [(2, 2_200, Decimal("0.0021"), 0)]


def test_what_a_model_without_a_price_costs_is_unknown_and_never_nothing(acme, site, redis_url):
    site.answers.append(replied())

    asked, again = (do_step("complete", {"prompt": ASKED}, acme) for _ in range(2))

    assert (asked["costUsd"], again["costUsd"], again["cached"]) == (None, "0", True)
    found = figures(acme)
    assert (found.cost_usd, found.saved_usd, found.unpriced) == (None, None, 1)
    assert used() == [(1, 1_100, None, 1)]
    assert scraped(redis_url, "ailydian_cost_usd_total") is None
    assert scraped(redis_url, "ailydian_model_unpriced_requests_total") == 1
    assert scraped(redis_url, "ailydian_tokens_total") == 1_100


def test_a_price_that_is_set_later_counts_what_comes_after_it(acme, site):
    site.answers += [replied(), replied()]
    do_step("complete", {"prompt": ASKED, "cache": False}, acme)
    assert used() == [(1, 1_100, None, 1)]

    put(OURS, "0.0005", "0.003")
    do_step("complete", {"prompt": ASKED, "cache": False}, acme)

    assert used() == [(2, 2_200, Decimal("0.0008"), 1)]


def test_a_local_model_is_free_because_the_catalogue_says_so(acme):
    given = {"prompt": ASKED, "context": [PASSAGE], "cache": False}
    free = do_step("complete", given, acme)
    put(LOCAL_COMPLETER, "1", "0")
    dear = do_step("complete", given, acme)

    assert free["costUsd"] == "0"
    assert Decimal(dear["costUsd"]) == Decimal(dear["tokensIn"]) / 1_000 > 0


def test_money_is_rounded_as_the_tables_round_it(pool):
    price = Price(Decimal("0.00002"), Decimal("0.00000001"))

    assert price.of(1, 0) == Decimal("0.00000002")
    assert (price.of(0, 499), price.of(0, 500)) == (Decimal(0), Decimal("0.00000001"))
    ((by_postgres,),) = rows("SELECT round(0.00000001 * 500 / 1000, 8)")
    assert price.of(0, 500) == by_postgres


@pytest.fixture
def run(acme, database_url, redis_url, tmp_path):
    """Run a command beside a server that embeds for money. Returns its exit code and output."""
    with StubOpenAI() as stub:

        def command(*arguments, **more):
            place = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
            place |= {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": "sk-canary"}
            with environment(**place, AILYDIAN_HOME=str(tmp_path), **more):
                ran = CliRunner().invoke(main, (*arguments, "--tenant", "acme"))
            db.open_pool(database_url)  # a command closes its pool
            return ran.exit_code, ran.output

        yield command


@pytest.mark.parametrize("command", ["search", "recall"])
def test_a_command_tells_what_it_embedded_and_what_that_cost(run, command):
    code, output = run(command, "How long are backups kept?")

    assert code == 0, output
    ((requests, tokens, cost_usd, unpriced),) = kept("text-embedding-3-small")
    assert (requests, unpriced) == (1, 0)
    assert cost_usd == Price(Decimal("0.00002"), Decimal(0)).of(tokens, 0) > 0


def test_a_command_says_which_model_has_no_price(acme, database_url, redis_url, tmp_path):
    command = (sys.executable, "-m", "producers.cli", "search", "How long?", "--tenant", "acme")
    with StubOpenAI() as stub:
        place = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        place |= {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": "sk-canary"}
        place |= {"AILYDIAN_OPENAI_EMBEDDING_MODEL": "acme-embed-1", "AILYDIAN_HOME": str(tmp_path)}
        ran = subprocess.run(
            command,
            check=False,
            env=os.environ | place,
            capture_output=True,
            text=True,
            timeout=patience(60),
        )

    assert ran.returncode == 0, ran.stderr
    assert "no price in the catalogue for model acme-embed-1" in ran.stderr
    assert kept("acme-embed-1")[0][2] is None
