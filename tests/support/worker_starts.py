"""Processes of the workers that refuse to start."""

import os
import subprocess
import sys

from tests.support import factories
from tests.support.patience import patience
from tests.support.source_code import ROOT

Ended = subprocess.CompletedProcess[str]


def start_and_wait(module: str, *arguments: str, database_url: str, redis_url: str) -> Ended:
    """Run a process of the workers that ends by itself; nothing of ours comes in by variables."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "AILYDIAN_SIGNING_KEY": factories.KEY.decode(),
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
