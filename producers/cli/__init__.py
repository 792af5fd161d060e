"""The `ailydian` command. Command modules are imported on first use to keep `--help` fast."""

import importlib
from typing import Any

import click

# name: (module of the command, its line in `ailydian --help`)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("producers.cli.roles.up", "Run all roles: relay, scheduler, workers."),
    "relay": (
        "producers.cli.roles.relay_scheduler",
        "Run the relay (dispatches due jobs to Redis) and Redis ingress.",
    ),
    "scheduler": (
        "producers.cli.roles.relay_scheduler",
        "Run the scheduler (cron schedules and system sweeps).",
    ),
    "work": ("producers.cli.roles.work", "Run workers."),
    "autoscale": ("producers.cli.roles.autoscale", "Run workers and scale them with queue lag."),
    "web": ("producers.cli.roles.web", "Serve the HTTP API, /metrics, /health and /ready."),
    "demo": ("producers.cli.demo.demo", "Run an end-to-end demo on built-in documents."),
    "bench": ("producers.cli.operations.bench", "Run benchmarks against a baseline."),
    "migrate": (
        "producers.cli.operations.databases",
        "Migrate the database to this version's schema.",
    ),
    "verify": (
        "producers.cli.operations.databases",
        "Check the database schema for errors.",
    ),
    "config": ("producers.cli.operations.databases", "Print the settings with secrets masked."),
    "status": ("producers.cli.ledger.queues", "Show queues, workers, lag and dead jobs."),
    "queues": ("producers.cli.ledger.queues", "Show ready, running and dead jobs per queue."),
    "pause": ("producers.cli.ledger.pauses", "Pause a queue, a tenant or a kind of job."),
    "resume": ("producers.cli.ledger.pauses", "Resume a paused queue, tenant or kind of job."),
    "drain": ("producers.cli.ledger.pauses", "Wait until no matching job is ready or running."),
    "limits": ("producers.cli.ledger.limits", "Manage concurrency and rate limits."),
    "schedule": ("producers.cli.ledger.schedule", "Manage cron schedules."),
    "retention": (
        "producers.cli.ledger.retention",
        "Manage retention and archiving of ended jobs.",
    ),
    "tenant": ("producers.cli.accounts.tenants", "Manage tenants."),
    "user": ("producers.cli.accounts.users", "Manage users and their preferences."),
    "keys": ("producers.cli.accounts.keys", "Manage API keys of the HTTP API."),
    "console": ("producers.cli.accounts.console", "Sign in at the HTTP API."),
    "ingest": ("producers.cli.documents.ingest", "Ingest files, folders, globs or standard input."),
    "documents": ("producers.cli.documents.documents", "List, show and delete documents."),
    "search": ("producers.cli.documents.search", "Search a tenant's documents."),
    "message": ("producers.cli.messages.messages", "Record and show messages."),
    "recall": ("producers.cli.messages.messages", "Search past messages by meaning."),
    "feedback": ("producers.cli.judgement.feedback", "Rate messages."),
    "moderation": (
        "producers.cli.judgement.moderation",
        "Manage moderation verdicts, policies and appeals.",
    ),
    "trust": ("producers.cli.judgement.trust", "Show trust scores of users."),
    "models": ("producers.cli.models.models", "Manage providers, models and routing."),
    "cache": ("producers.cli.models.cache", "Show and clear the answer cache."),
    "provenance": (
        "producers.cli.judgement.provenance",
        "Show and verify the provenance of answers.",
    ),
    "explain": ("producers.cli.judgement.explain", "Explain a score by its factors."),
    "training": ("producers.cli.judgement.training", "Export training examples for fine-tuning."),
    "incidents": ("producers.cli.operations.incidents", "List, show and close incidents."),
    "workflow": ("producers.cli.workflow.workflow", "Manage workflows and their runs."),
    "publish": ("producers.cli.ledger.publish", "Publish a job by name."),
    "webhooks": ("producers.cli.ledger.webhooks", "Post a tenant's events to an address, signed."),
    "publishers": ("producers.cli.ledger.publishers", "Manage who may publish what by Redis."),
    "jobs": ("producers.cli.ledger.jobs", "List, show, explain and cancel jobs."),
    "batches": ("producers.cli.ledger.batches", "Publish jobs as a batch and track progress."),
    "events": ("producers.cli.ledger.events", "Follow job events live."),
    "dead": ("producers.cli.ledger.dead", "List, show, edit, replay and discard dead letters."),
    "audit": ("producers.cli.operations.audit", "Read the audit log."),
    "quarantine": (
        "producers.cli.ledger.quarantine",
        "List, edit, replay and discard invalid Redis messages.",
    ),
}

# Set by `--json`, read when an error is reported.
AS_JSON = "ailydian.json"


class LazyGroup(click.Group):
    """A command group that imports a command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the command names in table order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command of this name."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(found, click.Command), f"{cmd_name} is a command"
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is refused with those of a similar name."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            name = error.command_name
            raise click.NoSuchCommand(name, possibilities=_alike(name), ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the command list from the table, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(self, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the command line; what it prints has no control characters."""
        from producers.cli.terminal import visible  # noqa: PLC0415 - as the commands

        with visible.streams():
            return super().main(*args, **named)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; convert an exception to one sentence and an exit code."""
        rest = list(ctx.args)
        try:
            from shared import plugins  # noqa: PLC0415 - `--help` needs none

            plugins.load()
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            from producers.cli.terminal import failures  # noqa: PLC0415 - only when it is needed

            # An error before the command is parsed finds its options unread.
            as_json = bool(ctx.meta.get(AS_JSON)) or "--json" in rest
            raise failures.reported(error, as_json=as_json) from error


def _alike(name: str) -> list[str]:
    """The commands that a name of about their length may mean."""
    return [one for one in COMMANDS if len(name) <= 2 * len(one)]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ailydian-workers", prog_name="ailydian")
def main() -> None:
    """Ailydian workers: publish once, effect once.

    Without DATABASE_URL and REDIS_URL, embedded servers are kept in .ailydian/ (AILYDIAN_HOME).
    They start when a command needs them and stop with the last such command. Exit codes: 0 on
    success, 1 on failure, 2 on incorrect usage.
    """
