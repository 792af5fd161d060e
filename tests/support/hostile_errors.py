"""Errors that an actor may raise and that no code of ours may stumble over."""

from collections.abc import Callable


class Unprintable(Exception):
    """Its own methods fail."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Exits(Exception):
    """It ends the process that prints it."""

    def __str__(self) -> str:
        raise SystemExit(3)


class NoText(Exception):
    """What it returns is not a text."""

    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307 - it is the point


class Hides(Exception):
    """Its attributes fail."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]
        raise RuntimeError("no cause")

    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no frames")


def _of_itself() -> BaseException:
    error = ValueError("upstream said no")
    error.__cause__ = error
    return error


def _cycle() -> BaseException:
    first, second, third = ValueError("first"), KeyError("second"), OSError("third")
    first.__cause__, second.__context__, third.__cause__ = second, third, first
    return first


def _long() -> BaseException:
    error: Exception = ValueError("the root")
    for number in range(50_000):
        error, before = RuntimeError(f"link {number}"), error
        error.__cause__ = before
    return error


def _deep_group() -> BaseException:
    error: Exception = ValueError("the innermost")
    for number in range(2_000):
        error = ExceptionGroup(f"level {number}", [error])
    return error


def _wide_group() -> BaseException:
    return ExceptionGroup("wide", [ValueError(f"member {number}") for number in range(5_000)])


def _recursive() -> BaseException:
    def even(n: int) -> int:
        return odd(n + 1)

    def odd(n: int) -> int:
        return even(n + 1)

    try:
        even(0)
    except RecursionError as error:
        return error
    raise AssertionError("it recurses for ever")


def _with_note() -> BaseException:
    error = ValueError("v")
    error.add_note("while in row 7")
    return error


def _with_notes() -> BaseException:
    error = ValueError("v")
    for number in range(7):
        error.add_note(f"note {number}")
    error.__notes__[1] = Unprintable()  # type: ignore[call-overload]
    return error


def _with_noted_members() -> BaseException:
    group = ExceptionGroup(
        "several", [_with_note(), KeyError("k"), ExceptionGroup("in", [_with_note()])]
    )
    group.add_note("of the whole batch")
    return group


class OddNotes(Exception):
    """Its notes are a text."""

    __notes__ = "as one text"


class FailingNotes(Exception):
    """Its notes fail."""

    @property
    def __notes__(self) -> list[str]:
        raise SystemExit(3)


# How each is made, with what a report of it must name.
HOSTILE: dict[str, tuple[Callable[[], BaseException], tuple[str, ...]]] = {
    "of itself": (_of_itself, ("ValueError: upstream said no", "returns to ValueError")),
    "cycle": (
        _cycle,
        ("ValueError: first", "KeyError: 'second'", "OSError: third", "returns to ValueError"),
    ),
    "unprintable": (
        Unprintable,
        ("Unprintable, whose message cannot be shown: RuntimeError",),
    ),
    "exits": (Exits, ("Exits, whose message cannot be shown: SystemExit",)),
    "no text": (NoText, ("NoText, whose message cannot be shown: TypeError",)),
    "hides": (lambda: Hides("here"), ("Hides: here",)),
    "long": (
        _long,
        ("ValueError: the root", "RuntimeError: link 49999", "errors of the chain left out"),
    ),
    "deep group": (_deep_group, ("ExceptionGroup: level 1999", "nested deeper")),
    "wide group": (_wide_group, ("ExceptionGroup: wide", "member 1 of 5000", "member 0")),
    "group of the unprintable": (
        lambda: ExceptionGroup("several", [Unprintable(), _of_itself()]),
        ("ExceptionGroup: several", "Unprintable", "ValueError: upstream said no"),
    ),
    "recursive": (_recursive, ("RecursionError", "frames left out")),
    "huge": (lambda: ValueError("no " * 10_000_000), ("ValueError: no no", "characters left out")),
    "odd text": (lambda: ValueError("bad \0 and \ud800"), ("bad \\0 and \\ud800",)),
    "notes": (
        _with_notes,
        ("note 0", "a note that cannot be shown: RuntimeError", "note 4", "2 notes left out"),
    ),
    "noted members": (
        _with_noted_members,
        ("several", "of the whole batch", "ValueError: v", "while in row 7", "KeyError: 'k'"),
    ),
    "odd notes": (lambda: OddNotes("o"), ("OddNotes: o", "as one text")),
    "failing notes": (lambda: FailingNotes("f"), ("FailingNotes: f",)),
    "note": (_with_note, ("ValueError: v", "while in row 7")),
}
