"""Real servers for the whole session, a fresh database and an empty Redis for every test."""

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from producers.operations import migration
from shared import db
from shared.servers import embedded_postgres, embedded_valkey
from shared.servers.embedded import Servers
from tests.support import postgres_builds, process_state, processes, temporary, thoroughness
from tests.support.patience import patience
from tests.support.signals import let_children_hear

HOMES = "ailydian-tests-"
REDIS_DATABASES = 16

# A developer's own servers and paid keys are none of a test's business.
for name in list(os.environ):
    if name in {"DATABASE_URL", "REDIS_URL"} or name.startswith(("AILYDIAN_", "OPENAI_")):
        del os.environ[name]
# One that is given: none is made in the working directory.
os.environ["AILYDIAN_SIGNING_KEY"] = "a key for tests, which is long enough to be one"
let_children_hear()
thoroughness.register()
temporary.use_memory()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before pytest chooses the folder of `tmp_path` itself."""
    temporary.own_folder(config)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With nothing left to look at."""
    temporary.forget_own_folder(session, exitstatus)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run choose its Postgres."""
    versions = [*postgres_builds.BUILDS]
    parser.addoption("--postgres", choices=versions, default=versions[0], help="version to test on")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs servers by what it asks for; `make unit` leaves that out.

    A time limit ends what hangs. It is no bound on what a test takes: those stand in the tests.
    """
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(patience(3 * limit.args[0])), append=False)
        if "servers" in getattr(item, "fixturenames", ()):
            item.add_marker("servers")


@pytest.fixture(scope="session", autouse=True)
def no_process_remains() -> Iterator[None]:
    """At the end of the session, what the tests have started must have ended."""
    yield
    processes.none_left(processes.children())


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Embedded servers in a short temporary folder, stopped and removed at the end.

    They run without fsync: no test here takes the machine's power away. A test that kills
    servers starts its own, durable ones.
    """
    _remove_leftovers()
    home = Path(tempfile.mkdtemp(prefix=HOMES))
    # SIGTERM ends the session as Ctrl-C does: pytest then runs the fixtures' ends.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        build = postgres_builds.BUILDS[request.config.getoption("--postgres")]
        with postgres_builds.use(home, build) as running:
            yield running
            processes.none_left([*_strangers(home)])
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def admin(servers: Servers) -> Iterator[psycopg.Connection]:
    """A superuser's connection that makes and drops databases."""
    with psycopg.connect(servers.database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="session")
def template(servers: Servers, admin: psycopg.Connection) -> str:
    """The name of a database with the schema applied, which nobody is connected to."""
    admin.execute("CREATE DATABASE ready")
    migration.migrate(_of(servers, "ready"))
    return "ready"


@pytest.fixture
def database_url(
    servers: Servers, admin: psycopg.Connection, template: str, _number: int
) -> Iterator[str]:
    """A database of this test's own: the schema, and no rows but the schema's."""
    name = f"test_{_number}"
    admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield _of(servers, name)
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(servers: Servers, _number: int) -> str:
    """An empty database of Redis, which the tests before this one did not use."""
    url = f"{servers.redis_url}?db={_number % REDIS_DATABASES}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def pool(database_url: str) -> Iterator[db.Pool]:
    """This process's pool, on the test's database, and nothing that an earlier test left."""
    process_state.forget()
    yield db.open_pool(database_url)
    db.close_pool()


_numbers = itertools.count(1)


@pytest.fixture
def _number() -> int:
    return next(_numbers)


def _of(servers: Servers, database: str) -> str:
    return servers.database_url.replace(f"/{embedded_postgres.DATABASE}?", f"/{database}?")


def _strangers(home: Path) -> Iterator[psutil.Process]:
    """Who still names this session's servers, and is none of theirs."""
    theirs = {int(line) for line in _server_pids(home)}
    for one in processes.of_home(home):
        if one.pid not in theirs and one.ppid() not in theirs:
            yield one


def _server_pids(home: Path) -> Iterator[str]:
    for name in ("postgres/postmaster.pid", "valkey/pid"):
        with contextlib.suppress(OSError):
            yield (home / name).read_text().split()[0]


def _remove_leftovers() -> None:
    """Stop and remove what a session that was killed with -9 left behind."""
    for home in Path(tempfile.gettempdir()).glob(f"{HOMES}*"):
        with contextlib.suppress(
            OSError
        ):  # no session yet, someone else's, or at work: BlockingIOError
            if time.time() - home.stat().st_mtime < 60:
                continue
            with (home / "users").open("r+") as users:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                embedded_valkey.stop(home)
                embedded_postgres.stop(home)
            shutil.rmtree(home)
