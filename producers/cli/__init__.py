"""The `ailydian` command. Groups are imported when they are called, so that `--help` is quick."""

import importlib

import click

# name: (where the command of that name lies, what `ailydian --help` says of it)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("producers.cli.roles.up", "Run everything: relay, scheduler, workers."),
    "relay": (
        "producers.cli.roles.relay_scheduler",
        "Run the relay: due jobs to Redis, and the Redis door.",
    ),
    "scheduler": (
        "producers.cli.roles.relay_scheduler",
        "Run the scheduler: what is due by the clock.",
    ),
    "work": ("producers.cli.roles.work", "Run workers."),
    "autoscale": ("producers.cli.roles.autoscale", "Run workers, as many as the lag asks for."),
    "web": ("producers.cli.roles.web", "Serve /metrics, /health and /ready."),
    "demo": ("producers.cli.demo.demo", "Show the main job on documents that come along."),
    "bench": ("producers.cli.operations.bench", "Measure, side by side with the raw floor."),
    "migrate": (
        "producers.cli.operations.databases",
        "Bring the database to this version's schema.",
    ),
    "verify": (
        "producers.cli.operations.databases",
        "Compare the database with what it should be.",
    ),
    "config": ("producers.cli.operations.databases", "Print the settings, secrets masked."),
    "status": ("producers.cli.ledger.queues", "Queues, workers, lag and dead jobs on one page."),
    "queues": ("producers.cli.ledger.queues", "What waits, runs and died in each queue."),
    "pause": ("producers.cli.ledger.pauses", "Hold a queue, a tenant or a kind of job."),
    "resume": ("producers.cli.ledger.pauses", "Undo pause."),
    "drain": ("producers.cli.ledger.pauses", "Wait until nothing of it is ready or running."),
    "limits": ("producers.cli.ledger.limits", "How much may run at once, or start a second."),
    "schedule": ("producers.cli.ledger.schedule", "Jobs by the clock: cron with a time zone."),
    "retention": (
        "producers.cli.ledger.retention",
        "How long what has ended is kept, and its archive.",
    ),
    "tenant": ("producers.cli.accounts.tenants", "Create, list, adopt into and delete tenants."),
    "user": ("producers.cli.accounts.users", "People, and what they prefer."),
    "ingest": ("producers.cli.documents.ingest", "Ingest files, folders, globs or standard input."),
    "documents": ("producers.cli.documents.documents", "List, show and delete documents."),
    "search": ("producers.cli.documents.search", "Search a tenant's documents."),
    "message": ("producers.cli.messages.messages", "Record and show messages."),
    "recall": ("producers.cli.messages.messages", "Find what was said before, by meaning."),
    "feedback": ("producers.cli.judgement.feedback", "Rate messages."),
    "moderation": ("producers.cli.judgement.moderation", "Verdicts, policies and appeals."),
    "trust": ("producers.cli.judgement.trust", "How far people are trusted, and why."),
    "models": ("producers.cli.models.models", "Providers, models and how they are routed to."),
    "cache": ("producers.cli.models.cache", "Answers given before: figures, and forgetting them."),
    "provenance": ("producers.cli.judgement.provenance", "Verify where an answer came from."),
    "explain": ("producers.cli.judgement.explain", "What a score was made of."),
    "training": ("producers.cli.judgement.training", "Export what was learnt, for fine-tuning."),
    "incidents": ("producers.cli.operations.incidents", "List, show and close incidents."),
    "workflow": ("producers.cli.workflow.workflow", "Workflows: put, run, show and act on runs."),
    "publish": ("producers.cli.ledger.publish", "Publish any job by its name."),
    "jobs": ("producers.cli.ledger.jobs", "List, show, explain and cancel jobs."),
    "batches": ("producers.cli.ledger.batches", "Many jobs as one thing, with progress."),
    "events": ("producers.cli.ledger.events", "Follow what becomes of jobs, live."),
    "dead": ("producers.cli.ledger.dead", "List, show, edit, replay and discard dead jobs."),
    "audit": ("producers.cli.operations.audit", "Who did what: the audit log."),
    "quarantine": (
        "producers.cli.ledger.quarantine",
        "List, edit, replay and discard what was no message of ours.",
    ),
}

# Where `--json` leaves its mark, for who reports an error.
AS_JSON = "ailydian.json"


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(found, click.Command), f"{cmd_name} is a command"
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by the table alone: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what it raises becomes one sentence and an exit code."""
        try:
            from shared import plugins  # noqa: PLC0415 - `--help` needs none

            plugins.load()
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            from producers.cli.terminal import failures  # noqa: PLC0415 - only when it is needed

            raise failures.reported(error, as_json=bool(ctx.meta.get(AS_JSON))) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ailydian-workers", prog_name="ailydian")
def main() -> None:
    """Ailydian workers: publish once, effect once.

    Without DATABASE_URL and REDIS_URL, servers of your own are kept in .ailydian/ (AILYDIAN_HOME),
    started when a command needs them and stopped by the last one that does. Every command takes
    --help; it ends 0 on success, 1 on a failed outcome and 2 on bad usage.
    """
