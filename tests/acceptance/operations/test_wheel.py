"""The wheel, built and installed into an environment of its own, works in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.servers import embedded_postgres, embedded_valkey

ROOT = Path(__file__).parents[3]
PACKAGES = ("shared", "producers", "workers")
SOURCES = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE")
EMBEDDED = (embedded_postgres.PACKAGE, embedded_valkey.PACKAGE)
LIMIT_S = 240
pytestmark = pytest.mark.timeout(2 * LIMIT_S)


@dataclass
class Installed:
    """An environment with the wheel, and an empty folder to work in."""

    folder: Path
    python: Path

    def run(self, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; nothing of ours comes in by variables."""
        return subprocess.run(
            [self.python.parent / str(command[0]), *map(str, command[1:])],
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.folder), **environment},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, as setuptools would leave its traces in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    _pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", copy / "out", copy)
    [built] = (copy / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The environment with the wheel alone; the fixtures below give it libraries."""
    folder = tmp_path_factory.mktemp("site")
    venv.create(folder, with_pip=False, symlinks=True)
    _pip("--python", folder / "bin" / "python", "install", "--no-index", "--no-deps", wheel)
    return folder


@pytest.fixture
def installed(site, tmp_path) -> Installed:
    """With the libraries of this Python, the embedded servers among them."""
    return _lend(site, tmp_path, without=())


@pytest.fixture
def bare(site, tmp_path) -> Installed:
    """As without the extra `embedded`."""
    return _lend(site, tmp_path, without=EMBEDDED)


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert held == {name.removeprefix("producers/launcher/") for name in files}
    assert "shared/schema/00_ground/tables.sql" in held
    assert "ailydian/__init__.py" in held


def test_the_demo_runs_in_an_empty_folder(installed):
    ran = installed.run("ailydian", "demo", "--json")

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["documents"] == 17
    assert told["embeddings"] == told["chunks"] > 0
    assert {path.name for path in installed.folder.iterdir()} == {".ailydian"}


def test_the_schema_comes_out_of_the_wheel(installed):
    first = installed.run("ailydian", "migrate", "--json")
    second = installed.run("ailydian", "migrate", "--json")
    verified = installed.run("ailydian", "verify", "--json")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert json.loads(first.stdout)["applied"] == ["schema"]
    assert json.loads(second.stdout)["applied"] == []
    assert json.loads(verified.stdout)["ok"] is True


def test_nothing_is_imported_from_the_checkout(installed):
    code = """
import ailydian, producers.cli
from producers.operations import migration
from workers.process import main
print(*sorted(one.__file__ for one in (producers.cli, migration, main, ailydian)))
"""
    ran = installed.run("python", "-c", code)
    version = installed.run("ailydian", "--version")

    assert ran.returncode == 0, ran.stderr
    assert all(
        Path(name).is_relative_to(installed.python.parents[1]) for name in ran.stdout.split()
    )
    assert version.stdout == f"ailydian, version {_version()}\n"


@pytest.mark.parametrize(
    ("given", "unset"),
    [
        ({}, "DATABASE_URL and REDIS_URL are not set"),
        ({"REDIS_URL": "redis://there"}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "postgresql://there"}, "REDIS_URL is not set"),
    ],
)
def test_without_the_servers_and_their_addresses_one_sentence_says_what_to_do(bare, given, unset):
    ran = bare.run("ailydian", "migrate", **given)

    assert ran.returncode == 1
    assert ran.stderr.startswith(f"Error: {unset} and the embedded servers are not installed:")
    assert "ailydian-workers[embedded]" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert list(bare.folder.iterdir()) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_another_package_of_our_name_is_named_in_one_sentence(installed, tmp_path, name):
    (tmp_path / "theirs" / name).mkdir(parents=True)
    (tmp_path / "theirs" / name / "__init__.py").write_text("raise RuntimeError('it was run')\n")
    path = str(tmp_path / "theirs")

    ran = installed.run("ailydian", "config", "--json", PYTHONPATH=path)

    assert ran.returncode == 1
    sentence = json.loads(ran.stdout)["error"]["message"]
    assert sentence.startswith(f"Another package named '{name}' shadows ours")
    assert path in sentence
    assert ran.stderr == f"Error: {sentence}\n"


def _version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def _pip(*arguments: object) -> None:
    pip = [sys.executable, "-W", "ignore", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    ran = subprocess.run(
        [*pip, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _lend(site: Path, folder: Path, *, without: tuple[str, ...]) -> Installed:
    """Give the environment the libraries of this Python, by links to all but some."""
    lent = folder / "lent"
    lent.mkdir()
    for place in (Path(entry) for entry in sys.path if Path(entry).name == "site-packages"):
        for entry in place.iterdir():
            ours = "ailydian" in entry.name or entry.suffix == ".pth"
            if not ours and not entry.name.startswith(without) and not (lent / entry.name).exists():
                (lent / entry.name).symlink_to(entry)
    [packages] = site.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{lent}\n")
    work = folder / "work"
    work.mkdir()
    return Installed(work, site / "bin" / "python")
