"""`make shell` and `make psql`: a prompt that is connected."""

import os
import subprocess
import sys

import pytest

from tests.support.factories import make_tenant
from tests.support.patience import patience
from tests.support.source_code import ROOT


@pytest.mark.parametrize(
    ("options", "typed"),
    [
        ([], 'rows(\'SELECT "slug" FROM "Tenant"\')\n'),
        (["--sql"], 'SELECT "slug" FROM "Tenant";\n'),
    ],
)
def test_the_prompt_reads_the_database(acme, database_url, redis_url, tmp_path, options, typed):
    make_tenant("other")
    place = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AILYDIAN_HOME": str(tmp_path)}

    said = subprocess.run(
        [sys.executable, "-m", "tests.support.shell", *options],
        input=typed,
        cwd=ROOT,
        env=os.environ | place,
        capture_output=True,
        text=True,
        check=True,
        timeout=patience(60),
    )

    assert "acme" in said.stdout
    assert "other" in said.stdout
