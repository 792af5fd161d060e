"""Workers on a machine that does not allow the parsers' sandbox, and on one that does."""

import subprocess
import sys

from producers.web import health
from shared.ledger.wakeups import connect
from tests.support.factories import job, make_tenant, rows, submit

WEAK = (sys.executable, "-m", "tests.support.weak_kernel", "no_sandbox", "--")
UNTRACED = (sys.executable, "-m", "tests.support.weak_kernel", "no_tracing", "--")
HTML = b"<html><body><p>iyi belge</p></body></html>"
READ = """
import sys
for pid in sys.argv[1:]:
    try:
        print(len(open(f"/proc/{pid}/environ", "rb").read()) > 0)
    except PermissionError:
        print("refused")
"""


def told(plant, name):
    with connect(plant.redis_url, timeout_s=5.0) as client:
        return {one.name: one for one in health.look(client, "ailydian")}.get(name)


def test_a_document_waits_for_a_machine_that_confines_its_parser(plant):
    tenant = make_tenant()
    page = submit(tenant, HTML, source="a.html").job_id
    text = submit(tenant, b"A plain text of some words.", source="a.txt").job_id
    plant.start_relay()
    plant.start_workers(processes=1, queues=("ingest",), through=WEAK)

    plant.until(lambda: job(page)["waitingFor"] == "sandbox")
    plant.until(lambda: job(text)["state"] == "COMPLETED")
    parked = job(page)
    assert (parked["state"], parked["attempt"]) == ("PENDING", 0)
    assert "sandbox is too weak on this machine: code in a document could" in parked["error"]
    plant.until(lambda: not told(plant, "sandbox").ok)
    assert "documents are refused: code in one could" in told(plant, "sandbox").detail
    assert "no seccomp, no Landlock, no own network" in told(plant, "sandbox").detail

    plant.stop_workers()
    plant.start_workers(processes=1, queues=("ingest",))
    rows('UPDATE "JobOutbox" SET "dueAt" = now() RETURNING 1')
    plant.until(lambda: job(page)["state"] == "COMPLETED")
    assert job(page)["attempt"] == 1
    plant.until(lambda: told(plant, "sandbox").detail.startswith("nothing is left open: seccomp"))


def test_memory_and_environment_of_workers_are_closed_to_their_own_user(plant):
    plant.start_workers(processes=1, queues=("audit",), through=UNTRACED)
    ours = [str(pid) for pid in (*plant.supervisors(), *(one.pid for one in plant.workers()))]

    with subprocess.Popen(
        [*UNTRACED, "/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as other:
        other.stdin.write(b"x")
        assert other.stdout.read(1) == b"x", "it is cat, and no more what starts it"
        ran = subprocess.run(
            [*UNTRACED, sys.executable, "-c", READ, str(other.pid), *ours],
            capture_output=True,
            text=True,
            check=True,
        )

    assert ran.stdout.split() == ["True", "refused", "refused"]
