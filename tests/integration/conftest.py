"""What most tests on real servers begin with: a tenant, a person, commands, a provider."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from producers.cli import main
from shared import connections, db
from shared.ids import TenantId
from tests.support.factories import environment, make_tenant, make_user
from tests.support.http_api import Api, serving
from tests.support.sample_documents import provided_by
from tests.support.stub_openai import StubOpenAI

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def tenant(pool: db.Pool) -> TenantId:
    """A tenant, with no rows of its own."""
    return make_tenant()


@pytest.fixture
def ada(tenant: TenantId) -> str:
    """A person of the tenant. Returns her id."""
    return make_user(tenant, "ada")


@pytest.fixture
def acme(pool: db.Pool) -> TenantId:
    """A tenant that commands can name."""
    return make_tenant("acme")


@pytest.fixture
def run(pool: db.Pool, database_url: str, redis_url: str, tmp_path: Path) -> Run:
    """Run a command on the test's servers. Returns its exit code and its output.

    The output of one that ended well with --json is its stdout: warnings go to stderr.
    """

    def command(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
        place = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        with environment(**place, AILYDIAN_HOME=str(tmp_path)):
            ran = CliRunner().invoke(main, arguments, input=stdin)
        db.open_pool(database_url)  # a command closes its pool
        done = ran.exit_code == 0 and "--json" in arguments
        return ran.exit_code, ran.stdout if done else ran.output

    return command


@pytest.fixture
def api(pool: db.Pool, database_url: str, redis_url: str) -> Iterator[Api]:
    """The HTTP API, with as many connections to Postgres as `ailydian web` has."""
    db.open_pool(database_url, size=connections.WEB - 1)
    with serving(redis_url) as running:
        yield running


@pytest.fixture
def stub() -> Iterator[StubOpenAI]:
    """A provider's server, which no setting names."""
    with StubOpenAI() as running:
        yield running


@pytest.fixture
def provider(stub: StubOpenAI) -> Iterator[StubOpenAI]:
    """The same, named by this process's settings, and chunks of one paragraph each."""
    with provided_by(stub):
        yield stub
