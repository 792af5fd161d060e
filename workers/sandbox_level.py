"""The level of the parsers' sandbox on this machine, measured once in a process."""

import threading
from dataclasses import dataclass

import structlog

from shared.errors import SandboxUnavailable
from shared.settings import settings
from workers import sandbox_probe
from workers.sandbox_probe import SandboxLevel

log = structlog.get_logger()

_measuring = threading.Lock()


@dataclass(slots=True)
class _Known:
    level: SandboxLevel | None = None
    failed: bool = False


_known = _Known()


def level() -> SandboxLevel:
    """What confines the parsers here; the first call takes a moment and logs it.

    Raises:
        SandboxUnavailable: It cannot be measured now.
    """
    with _measuring:
        if _known.level is None:
            try:
                _known.level = sandbox_probe.measure()
            except SandboxUnavailable:
                _known.failed = True  # until it is known better
                raise
            _tell(_known.level)
        return _known.level


def require() -> None:
    """Refuse to go on where code in a parser's process could do anything.

    Raises:
        SandboxUnavailable: It could, or it cannot be measured now.
    """
    found = level()
    if found.possible:
        raise SandboxUnavailable(
            f"The parsers' sandbox is too weak on this machine: code in a document could "
            f"{', '.join(found.possible)} ({found.layers}). Allow seccomp filters there, or set "
            "AILYDIAN_SANDBOX=prefer to parse documents all the same."
        )


def begin() -> None:
    """Measure in a thread of its own, so that the first document does not wait for it."""
    threading.Thread(target=_begin, name="sandbox", daemon=True).start()


def figures() -> dict[str, object]:
    """The level, for the row of this process; nothing where it was not measured."""
    found = _known.level
    if found is None and _known.failed:
        found = SandboxLevel(("do anything",), "it could not be measured")
    if found is None:
        return {}
    required = settings().sandbox_required
    level = {"possible": list(found.possible), "layers": found.layers, "required": required}
    return {"sandbox": level}


def _begin() -> None:
    try:
        level()
    except SandboxUnavailable as error:
        log.warning("sandbox.unmeasured", error=str(error))


def _tell(found: SandboxLevel) -> None:
    if not found.possible:
        log.info("sandbox.closed", layers=found.layers)
        return
    required = settings().sandbox_required
    tell = log.error if required else log.warning
    tell(
        "sandbox.too_weak",
        possible=list(found.possible),
        layers=found.layers,
        parsed="no documents" if required else "all the same",
    )
