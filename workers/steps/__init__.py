"""What a step does, by its kind: importing this fills `workers.steps.table`."""

from workers.steps import (  # noqa: F401
    children,
    complete,
    functions,
    http,
    index_check,
    search,
    transform,
    waiting,
)
