"""The level of the parsers' sandbox: as the workers measured it, or measured here."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from producers.queries.ledger import queue_figures
from shared.db import Connection
from shared.settings import child_command, settings

MEASURE_S_MAX = 90.0


@dataclass(frozen=True, slots=True)
class SandboxState:
    """What was found; `ok` unless documents are refused because of it."""

    ok: bool
    detail: str


def of_workers(conn: Connection) -> SandboxState | None:
    """The state of the workers that parse documents, the weakest first; None if none runs.

    Args:
        conn: A connection in the relay's role.
    """
    found = [
        (_state(figures), f"{one.host} pid {one.pid}")
        for one in queue_figures.select_processes(conn)
        if (figures := one.figures.get("sandbox"))
    ]
    if not found:
        return None
    weak = [f"{where}: {state.detail}" for state, where in found if not state.ok]
    return SandboxState(not weak, "; ".join(weak) or found[0][0].detail)


def of_this_machine() -> SandboxState:
    """Measure here, for the user that runs this: the workers' program, in a process of its own."""
    try:
        ran = subprocess.run(  # noqa: S603 - our own interpreter and module
            child_command("workers.sandbox_probe"),
            capture_output=True,
            timeout=MEASURE_S_MAX,
            check=True,
        )
        measured = json.loads(ran.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return SandboxState(False, f"not measured: {type(error).__name__}")
    return _state(measured | {"required": settings().sandbox_required})


def _state(measured: Mapping[str, object]) -> SandboxState:
    possible, layers = measured["possible"], measured["layers"]
    assert isinstance(possible, Sequence)
    if not possible:
        return SandboxState(True, f"nothing is left open: {layers}")
    required = bool(measured["required"])
    outcome = "documents are refused" if required else "documents are parsed all the same"
    acts = ", ".join(map(str, possible))
    return SandboxState(not required, f"{outcome}: code in one could {acts} ({layers})")
