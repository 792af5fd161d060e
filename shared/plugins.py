"""Modules of yours with contracts and actors: named in AILYDIAN_PLUGINS, imported by every process.

Every command, every role and every worker process calls `load` before it does anything else, so a
job of yours is known wherever one of ours is. Long-running processes tell the database of it too.
"""

import importlib
import sys
import traceback
from pathlib import Path

from shared import contract, import_guard
from shared.contracts import CONTRACTS, Contract
from shared.errors import ConfigurationBroken
from shared.import_guard import ImportTooLong, ProcessLeft, guarded
from shared.settings import settings

_loaded: dict[str, type[Contract]] = {}


def load() -> None:
    """Import the plugins; the contracts that they register are known afterwards.

    Modules are looked for on PYTHONPATH, among installed packages, then in the working directory.

    Raises:
        ConfigurationBroken: A module is not found, or fails, hangs or ends the process while it
            is imported.
    """
    names = [name.strip() for name in settings().plugins.split(",") if name.strip()]
    here = str(Path.cwd())
    if names and here not in sys.path:  # last: what lies there hides nothing of ours
        sys.path.append(here)
    for name in names:
        known = set(CONTRACTS)
        try:
            with guarded():
                importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigurationBroken(_missing(name, error)) from error
        except BaseException as error:  # whatever a module does while it is imported
            raise ConfigurationBroken(_failed(name, error)) from error
        _loaded.update({job: CONTRACTS[job] for job in CONTRACTS.keys() - known})


def contracts() -> list[type[Contract]]:
    """The contracts that the plugins of this process have registered."""
    return list(_loaded.values())


def _missing(name: str, error: ModuleNotFoundError) -> str:
    if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
        return (
            f"AILYDIAN_PLUGINS names {name!r}, and no module {error.name!r} is found: put its "
            f"folder on PYTHONPATH, or install it."
        )
    return (
        f"AILYDIAN_PLUGINS names {name!r}, which imports {error.name!r}{_place(error)}, and no "
        f"module of that name is found: install it."
    )


def _failed(name: str, error: BaseException) -> str:
    from shared.observability import error_texts  # noqa: PLC0415 - a command waits for this module

    if isinstance(error, ProcessLeft):
        return (
            f"AILYDIAN_PLUGINS names {name!r}, which ends the process while it is "
            f"imported{_place(error)}: os._exit({error})."
        )
    if isinstance(error, ImportTooLong):
        return (
            f"AILYDIAN_PLUGINS names {name!r}, whose import was stopped after "
            f"{error.args[0]:g} s{_place(error)}."
        )
    what = f"{error_texts.class_name(error)}: {error_texts.message(error)}".partition("\n")[0]
    return (
        f"AILYDIAN_PLUGINS names {name!r}, which cannot be imported{_place(error)}: "
        f"{what.rstrip('.')}."
    )


def _place(error: BaseException) -> str:
    """Where a module's import failed: the last line of it, or of what it calls.

    For an invalid contract that is the line of its class, not ours that checks it. What has a NUL
    character is refused before Python counts its lines.
    """
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f" ({Path(error.filename or '?').name}, line {error.lineno})"
    ours = (__file__, importlib.__file__, contract.__file__, import_guard.__file__)
    lines = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename not in ours
        and not frame.f_code.co_filename.startswith("<")
        and frame.f_globals.get("__name__", "").partition(".")[0] != "pydantic"
    ]
    return lines[-1] if lines else ""
