"""Procfile and docker-compose.yml start the same roles, by commands that exist."""

import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml

from producers.cli import main
from shared.contracts import CONTRACTS, QUEUES
from shared.settings import Settings

ROOT = Path(__file__).parents[3]
SERVERS = {"postgres", "redis"}
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

    assert postgres["image"] == "pgvector/pgvector:pg18"
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert valkey["image"] == "valkey/valkey:9"
    assert valkey["volumes"] == ["redis:/data"]
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
        assert service["environment"].keys() <= known, name


def test_no_secret_stands_in_the_compose_file():
    text = (ROOT / "docker-compose.yml").read_text()

    secrets = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "AILYDIAN_SIGNING_KEY"}
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert required == secrets
    assert not re.search(r"\$\{(\w*PASSWORD|\w*KEY):-[^}]", text), "a secret has a default"


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
