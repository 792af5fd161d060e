"""What a step does, by its kind: importing this fills `workers.steps.table`."""

from workers.steps import (  # noqa: F401
    complete,
    functions,
    http,
    index_check,
    search,
    sub_workflow,
    transform,
    waiting,
)
