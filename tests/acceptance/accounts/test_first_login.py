"""`ailydian up --web` on servers of its own: it says where the API is, and lets its operator in."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.patience import patience, until

ROOT = Path(__file__).parents[3]
LINE = re.compile(r"The HTTP API is at (\S+)/v1\. Sign in as (\S+), once, within 10 minutes: (\S+)")


def _free_port():
    from socket import create_server  # noqa: PLC0415 - here alone

    with create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def _get(url, **headers):
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    cookies = [one.split(";")[0] for one in answer.headers.get_all("Set-Cookie", [])]
    connection.close()
    return answer.status, body, "; ".join(cookies)


def test_up_prints_a_link_that_signs_its_operator_in():
    home = Path(tempfile.mkdtemp(prefix="ailydian-tests-"))
    log = home / "up.log"
    command = [sys.executable, "-m", "producers.cli", "up", "--processes", "1"]
    with log.open("w") as err:
        up = subprocess.Popen(
            [*command, "--web", str(_free_port())],
            cwd=ROOT,
            env=os.environ | {"AILYDIAN_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    try:
        assert up.stdout is not None
        ready = json.loads(up.stdout.readline())
        until(lambda: LINE.search(log.read_text()), tell=log.read_text)
        web, user, link = LINE.search(log.read_text()).groups()
        status, _, cookies = _get(link)
        current = _get(f"{web}/v1/sessions/current", Cookie=cookies)[1]
        again = _get(link)[0]
    finally:
        up.terminate()
        rest, _ = up.communicate(timeout=patience(60))
        shutil.rmtree(home)

    assert (ready["ready"], ready["web"]) == (True, web)
    assert rest == "", "stdout holds the one line"
    assert (status, again) == (303, 401)
    assert json.loads(current)["user"] == user == "operator@localhost"
