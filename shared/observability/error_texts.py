"""Any error as text: its message, its class, and a report of frames, causes and members.

Actors raise what they like: an error that is its own cause, one whose `__str__` fails, a group, a
chain of a hundred thousand. Nothing here fails or goes on for ever, whatever it is given.
"""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psycopg

from shared.observability.redaction import redact

MESSAGE_CHARS_MAX: Final = 2_000
NAME_CHARS_MAX: Final = 200
LINKS_MAX: Final = 20
WALK_MAX: Final = 100_000
FRAMES_FIRST, FRAMES_LAST = 10, 30
MEMBERS_MAX: Final = 10
GROUP_DEPTH_MAX: Final = 4
ERRORS_MAX: Final = 60
NOTES_MAX: Final = 5

# The real attributes: a class may define properties of these names that raise.
_CAUSE: Final = vars(BaseException)["__cause__"]
_CONTEXT: Final = vars(BaseException)["__context__"]
_SUPPRESSED: Final = vars(BaseException)["__suppress_context__"]
_FRAMES: Final = vars(BaseException)["__traceback__"]
_MEMBERS: Final = vars(BaseExceptionGroup)["exceptions"]
_NAME: Final = vars(type)["__name__"]

_CAUSED = "\nwhich led to\n\n"
_HANDLED = "\nwhile handling it, this was raised\n\n"


def class_name(error: BaseException) -> str:
    """The name of an error's class."""
    name: str = _NAME.__get__(type(error))
    return name[:NAME_CHARS_MAX]


def message(error: BaseException) -> str:
    """An error's message, without the DETAIL in which Postgres quotes row values.

    A group names its members. An error without a message is named by its class, and one whose
    message cannot be had by its class and the reason.
    """
    return _message(error, GROUP_DEPTH_MAX, noted=False)


def message_with_notes(error: BaseException) -> str:
    """As `message`, with what `add_note` has added, also to the members of a group."""
    return _message(error, GROUP_DEPTH_MAX, noted=True)


def _message(error: BaseException, depth: int, *, noted: bool) -> str:
    try:
        if issubclass(type(error), psycopg.Error) and error.diag.message_primary:  # type: ignore[attr-defined]
            return str(error.diag.message_primary)  # type: ignore[attr-defined]
        text = str.__str__(str(error))  # a subclass of str could fail later
    except BaseException as failed:  # also SystemExit, and an interruption from outside
        return f"{class_name(error)}, whose message cannot be shown: {class_name(failed)}"
    text = text or class_name(error)
    if noted:
        text += "".join(f" [{note}]" for note in _notes(error))
    if members := _members(error):
        shown = members[:MEMBERS_MAX] if depth else []
        told = [_message(one, depth - 1, noted=noted)[:MESSAGE_CHARS_MAX] for one in shown]
        names = map(class_name, shown)
        text += ": " + "; ".join(f"{name}: {one}" for name, one in zip(names, told, strict=True))
    return text


def report(error: BaseException) -> str:
    """Frames and messages of an error, of what it came from and of a group's members, redacted.

    What came first stands first. Of long chains the two ends are kept, of deep recursion the
    first and the last frames.
    """
    return redact("".join(_Report().lines(error, 0)))


def places(error: BaseException) -> list[str]:
    """Where an error passed, as `file:function`, innermost last; no source is read."""
    return [
        f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
        for frame, _ in traceback.walk_tb(_FRAMES.__get__(error))
    ]


class _Report:
    """One report; it counts its errors, so that none is endless."""

    def __init__(self) -> None:
        self._left = ERRORS_MAX

    def lines(self, error: BaseException, depth: int) -> Iterator[str]:
        chain, note = _chain(error)
        if note:
            yield f"[{note}]\n"
        middle = range(LINKS_MAX // 2, len(chain) - LINKS_MAX // 2)
        for place in reversed(range(len(chain))):
            link, leads_to = chain[place]
            if place in middle:
                if place == middle[-1]:
                    yield f"\n[{len(middle):,} errors of the chain left out]\n\n"
                continue
            yield from self._one(link, depth)
            yield leads_to

    def _one(self, error: BaseException, depth: int) -> Iterator[str]:
        if self._left <= 0:
            return
        self._left -= 1
        yield from _frames(_FRAMES.__get__(error))
        yield f"{class_name(error)}: {_short(message(error))}\n"
        yield from (f"{note}\n" for note in _notes(error))
        members = _members(error)
        if members and depth >= GROUP_DEPTH_MAX:
            yield "[groups that are nested deeper are left out]\n"
            return
        for place, member in enumerate(members[:MEMBERS_MAX], start=1):
            yield f"\n  member {place} of {len(members)}:\n"
            text = "".join(self.lines(member, depth + 1))
            yield "".join(f"  {line}\n" for line in text.splitlines())


def _chain(error: BaseException) -> tuple[list[tuple[BaseException, str]], str]:
    """An error and what it came from, each with how it led to the one before it; and a remark."""
    chain, seen = [(error, "")], {id(error)}
    while len(chain) < WALK_MAX:
        before, leads_to = _CAUSE.__get__(error), _CAUSED
        if before is None and not _SUPPRESSED.__get__(error):
            before, leads_to = _CONTEXT.__get__(error), _HANDLED
        if before is None:
            return chain, ""
        if id(before) in seen:
            return chain, f"the chain of causes returns to {class_name(before)}"
        seen.add(id(before))
        chain.append((before, leads_to))
        error = before
    return chain, f"the chain is longer than {WALK_MAX:,} errors"


def _members(error: BaseException) -> list[BaseException]:
    if not issubclass(type(error), BaseExceptionGroup):
        return []
    return list(_MEMBERS.__get__(error))


def _frames(begin: TracebackType | None) -> Iterator[str]:
    count, at = 0, begin
    while at is not None:
        count, at = count + 1, at.tb_next
    left_out = count - FRAMES_FIRST - FRAMES_LAST
    if left_out <= 0:
        yield from _shown(lambda: traceback.format_tb(begin))
        return
    yield from _shown(lambda: traceback.format_tb(begin, limit=FRAMES_FIRST))
    yield f"  [{left_out:,} frames left out]\n"
    yield from _shown(lambda: traceback.format_tb(begin, limit=-FRAMES_LAST))


def _shown(lines: Callable[[], list[str]]) -> list[str]:
    try:
        return lines()
    except BaseException as failed:  # source is read by the module's own loader
        return [f"  [frames that cannot be shown: {class_name(failed)}]\n"]


def _notes(error: BaseException) -> list[str]:
    try:
        notes: Any = error.__notes__
        if not isinstance(notes, list | tuple):  # the class sets them as it likes
            notes = [notes]
        shown, left_out = notes[:NOTES_MAX], len(notes) - NOTES_MAX
    except BaseException:  # most errors have none
        return []
    told = [_note(note) for note in shown]
    return [*told, f"{left_out:,} notes left out"] if left_out > 0 else told


def _note(note: object) -> str:
    try:
        return _short(str.__str__(str(note)))
    except BaseException as failed:
        return f"a note that cannot be shown: {class_name(failed)}"


def _short(text: str) -> str:
    """A text as it may be cut: redacted first, for half a secret is not known as one."""
    text = redact(text)
    left_out = len(text) - MESSAGE_CHARS_MAX
    if left_out <= 0:
        return text
    half = MESSAGE_CHARS_MAX // 2
    return f"{text[:half]} [{left_out:,} characters left out] {text[-half:]}"
