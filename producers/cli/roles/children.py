"""Children that are roles: started again when they end, and told to end together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from producers.cli.roles.processes import Process, TimeoutExpired, start
from producers.errors import RoleKeepsEnding
from shared.settings import settings

log = structlog.get_logger()

STEADY_S = 10.0
QUICK_DEATHS_MAX = 3
AGAIN_S_MAX = 5.0
KILL_AFTER_GRACE_S = 10.0


@dataclass(slots=True)
class Child:
    """A role and its process."""

    role: list[str]
    process: Process
    started_at: float
    quick_deaths: int = 0
    again_at: float | None = None

    @classmethod
    def of(cls, role: list[str]) -> "Child":
        """Start a role."""
        return cls(role, start(role), time.monotonic())


def look_after(one: Child, *, ready: bool) -> None:
    """Restart a role that has ended, with backoff if it ends immediately.

    Raises:
        RoleKeepsEnding: It cannot start, and nothing was ready yet.
    """
    now = time.monotonic()
    if one.again_at is None and one.process.poll() is not None:
        one.quick_deaths = one.quick_deaths + 1 if now - one.started_at < STEADY_S else 0
        log.error("role.ended", role=one.role[0], code=one.process.returncode)
        if not ready and one.quick_deaths >= QUICK_DEATHS_MAX:
            raise RoleKeepsEnding(
                f"`ailydian {' '.join(one.role)}` exits immediately with code "
                f"{one.process.returncode}: its last lines above say why."
            )
        one.again_at = now + min(AGAIN_S_MAX, 0.1 * 2**one.quick_deaths)
    if one.again_at is not None and now >= one.again_at:
        one.process, one.started_at, one.again_at = start(one.role), now, None


def end(running: Sequence[Child]) -> None:
    """Stop every role; kill those that do not end within the grace period."""
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
    deadline = time.monotonic() + settings().grace_s + KILL_AFTER_GRACE_S
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except TimeoutExpired:
            log.error("role.killed", role=one.role[0])
            one.process.kill()
            one.process.wait()
