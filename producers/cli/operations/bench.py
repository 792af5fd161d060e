"""The `bench` command: runs each benchmark of a checkout in its own process."""

import json
import subprocess
import sys
from pathlib import Path

import click

from producers.cli.terminal.output import json_option, print_json, print_table
from shared.errors import UsageError

ROOT = Path(__file__).parents[3]

# name: what it measures, and its baseline
BENCHMARKS = {
    "drain": "20,000 no-op jobs, settled four ways, against plain Dramatiq.",
    "ingest": "2,000 documents with a stub for OpenAI, against a plain loop.",
    "latency": "From publish to the actor when idle; Redis calls of idle processes.",
    "idle": "`ailydian up` doing nothing: ready time and CPU.",
    "chunker": "MB a CPU-second with the fast tokenizer and with tiktoken alone.",
    "publish": "Publishing and relaying, against plain Dramatiq's drain.",
    "http": "The HTTP API: publishes beside an echo and an INSERT; a large upload.",
    "fair": "Fairness of a small tenant beside a large one; rate and concurrency limits.",
    "flat": "Drain rates of 1,000 to 1,000,000 queued jobs; Redis wiped at the deepest.",
    "survive": "500 killed workers, 20 wipes, 20 crashes of Postgres, Redis away, fuzz.",
    "workflow": "Steps per second, fan-out, large runs, takeover and timers, against DBOS.",
    "workflow-survive": "5,000 runs of 8 steps; 200 killed workers, 20 crashes of Postgres.",
    "steady": "Half an hour of steady load, minute by minute; table growth.",
    "horizon": "A steady load beside transactions that keep vacuum away; events meanwhile.",
    "streams": "2,000 clients of /v1/events: how late, with how much memory.",
    "audit": "Sealing and verifying an audit log of a million entries.",
    "messages": "A recorded message with all its follow-ups; recall over them.",
    "bandit": "Regret of routing on Postgres, against Thompson sampling and UCB1.",
    "calibration": "Calibration error on a synthetic truth; CPU of an answer's factors.",
    "moderation": "False alarms and recall, and messages a CPU-second.",
    "cache": "Precision and recall of hits; lookups at 100,000 entries.",
    "search": "Insert cost with search live, recall and query time.",
}
# These take 15 minutes or more and run only by name.
LONG = frozenset({"survive", "steady", "horizon", "workflow", "workflow-survive"})


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False, type=click.Choice([*BENCHMARKS, "all"]))
@click.option("--list", "listed", is_flag=True, help="List the benchmarks without running them.")
@json_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(name: str | None, listed: bool, as_json: bool, options: tuple[str, ...]) -> None:
    """Run benchmarks against a baseline measured in the same run.

    Needs a source checkout with tests/benchmarks. OPTIONS are passed to the benchmark:
    `ailydian bench drain --rounds 1`. `all` leaves out the long ones: survive, steady, horizon
    and both of workflows. Exits 1 if a target was missed.
    """
    if listed or name is None:
        _list(as_json=as_json)
        return
    if not (ROOT / "tests" / "benchmarks" / "harness.py").exists():
        raise UsageError(
            "The benchmarks are part of the source, not of the installed package: run "
            "`ailydian bench` in a checkout, as installed by `make setup`."
        )
    names = [one for one in BENCHMARKS if one not in LONG] if name == "all" else [name]
    documents: list[object] = []
    failed = False
    for one in names:
        code, output = _run(one, options, as_json=as_json)
        failed |= code != 0
        documents.append(_parsed(one, code, output))
    if as_json:
        print_json(documents[0] if name != "all" else documents)
    if failed:
        raise click.exceptions.Exit(1)


def _list(*, as_json: bool) -> None:
    if as_json:
        print_json([{"name": name, "measures": text} for name, text in BENCHMARKS.items()])
    else:
        print_table(("NAME", "MEASURES"), BENCHMARKS.items())


def _run(name: str, options: tuple[str, ...], *, as_json: bool) -> tuple[int, str]:
    module = f"tests.benchmarks.{name.replace('-', '_')}"
    finished = subprocess.run(  # noqa: S603 - our own module; the options are the caller's own
        [sys.executable, "-m", module, *options, *["--json"] * as_json],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE if as_json else None,
        text=True,
    )
    return finished.returncode, finished.stdout or ""


def _parsed(name: str, code: int, output: str) -> object:
    last = (output.strip().splitlines() or [""])[-1]
    try:
        return json.loads(last)
    except ValueError:
        return {"benchmark": name, "figures": [], "exitCode": code}
