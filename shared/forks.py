"""Children that a job forks without exec, and that come back into our code.

Such a child has the connections of its parent, half of its threads and the job's lease: whatever it
writes is written in its parent's name. It ends before that. One that runs a function of its own,
as those of `multiprocessing` do, never comes back.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

EXIT_CODE: Final = 70  # "internal software error" in sysexits.h

Given = ParamSpec("Given")
Result = TypeVar("Result")


def end_fork_of(process_id: int) -> None:
    """End this process at once, unless it is the one with this id."""
    if os.getpid() != process_id:
        os._exit(EXIT_CODE)


@contextmanager
def ending() -> Iterator[None]:
    """End the children forked in the block that leave it, however they do."""
    ours = os.getpid()
    try:
        yield
    finally:
        end_fork_of(ours)


def calling(
    function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
) -> Result:
    """Call a function that may fork; only the calling process comes back from it."""
    with ending():
        return function(*arguments, **named)
