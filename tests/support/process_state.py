"""What a process remembers of servers and models: its own in production, every test's here."""

from shared.models.providers import uses
from shared.observability import outages


def forget() -> None:
    """Begin as a new process does: no use of a model to be stored, no outage to be told."""
    uses.take()
    vars(outages)["_ours"].__init__()
