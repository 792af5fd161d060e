"""Modules of yours with contracts and actors: named in AILYDIAN_PLUGINS, imported by every role."""

import importlib
import sys
from pathlib import Path

from shared.errors import ConfigurationBroken
from shared.settings import settings


def load() -> None:
    """Import the plugins; the contracts that they register are known afterwards.

    Modules are looked for on PYTHONPATH, among installed packages, then in the working directory.

    Raises:
        ConfigurationBroken: A module is not found.
    """
    names = [name for name in settings().plugins.split(",") if name]
    here = str(Path.cwd())
    if names and here not in sys.path:  # last: what lies there hides nothing of ours
        sys.path.append(here)
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigurationBroken(
                f"AILYDIAN_PLUGINS names {name!r}, and no module {error.name!r} is found: put its "
                f"folder on PYTHONPATH, or install it."
            ) from error
