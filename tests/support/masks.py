"""Compares what a page shows with what a command prints, without what is different each time."""

import re
from collections.abc import Iterator

# name: what is masked. An id stands for another id from its first appearance on.
_MASKS = {
    "id": r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{16,64}\b",
    "hex": r"\b0x[0-9a-f]{16,32}\b",
    "time": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| UTC)?",
    "day": r"\b\d{4}-\d\d-\d\d\b",
    "span": r"\b\d[\d.,]* (?:us|ms|s|m|min|h|d)\b(?: \d+ (?:s|m|min|h)\b)?",
    "memory": r"\b\d+ MB\b",
    "entry": r"\b\d{13}-\d+\b",
    "clock": r"\b\d\d:\d\d:\d\d\b",
    "position": r"\b\d{3,}-\d+\b",
    "port": r"(?<=localhost:)\d+|(?<=127\.0\.0\.1:)\d+",
    "user": r"(?<=cli:)\w+",
    "worker": r"\b[\w.-]+-[0-9a-f]{12}\b",
    "file": r"(?<=:)\d+(?=, in )|(?<=\", line )\d+|/tmp/\S+",
    "rest": r"(?:\.\.\.|…)$",
}
_MASK = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _MASKS.items()))
_ELLIPSIS = "..."
_WIDE = re.compile(r"[ \t━]+")


class Ids:
    """The ids of a page, and those that the commands gave in their place."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def real(self, text: str) -> str:
        """A text with the real ids in place of the page's."""
        return re.sub(_MASKS["id"], lambda found: self._real.get(found[0], found[0]), text)

    def written(self, text: str) -> str:
        """A text with the page's ids in place of the real ones."""
        mine = {real: written for written, real in self._real.items()}
        return re.sub(_MASKS["id"], lambda found: mine.get(found[0], found[0]), text)

    def knows(self, written: str) -> bool:
        """Whether an id of the page has appeared."""
        return written in self._real

    def bind(self, expected: str, printed: str) -> None:
        """Learn the ids of an output that matches."""
        found = _pattern(expected, self).fullmatch(_plain(printed))
        assert found is not None, "it was found to match"
        for name, real in found.groupdict().items():
            self._real[_unnamed(name)] = real

    def pair(self, expected: str, printed: str) -> None:
        """Learn the ids of an output that does not match: the first for the first, and so on."""
        mine = [it for it in _ids(expected) if not self.knows(it)]
        theirs = [it for it in _ids(printed) if it not in self._real.values()]
        self._real.update(zip(mine, theirs, strict=False))


def masked(line: str) -> str:
    """A line without what is different each time, to compare two of them."""
    return _MASK.sub(lambda found: f"<{found.lastgroup}>", _plain(line).strip())


def matches(expected: str, printed: str, ids: Ids) -> bool:
    """Whether a command has printed what the page shows."""
    return _pattern(expected, ids).fullmatch(_plain(printed)) is not None


def _pattern(expected: str, ids: Ids) -> re.Pattern[str]:
    seen: set[str] = set()
    lines = [
        r"(?:.*\n)*?" if line.strip() == _ELLIPSIS else "".join(_parts(line, ids, seen)) + r"\n"
        for line in _plain(expected).splitlines()
    ]
    return re.compile("".join(lines))


def _parts(line: str, ids: Ids, seen: set[str]) -> Iterator[str]:
    end = 0
    for found in _MASK.finditer(line):
        yield re.escape(line[end : found.start()])
        end = found.end()
        kind = str(found.lastgroup)
        if kind == "rest":
            yield ".*"
        elif kind != "id":
            yield f"(?:{_MASKS[kind]})"
        elif ids.knows(found[0]):
            yield re.escape(ids.real(found[0]))
        elif found[0] in seen:
            yield f"(?P={_named(found[0])})"
        else:
            seen.add(found[0])
            yield f"(?P<{_named(found[0])}>{_MASKS['id']})"
    yield re.escape(line[end:])


def _plain(text: str) -> str:
    """A text without what its columns' widths and bars make of it."""
    lines = [_WIDE.sub(" ", line).strip() for line in text.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def _ids(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(_MASKS["id"], text)))


def _named(written: str) -> str:
    return "id_" + written.replace("-", "_")


def _unnamed(name: str) -> str:
    return name.removeprefix("id_").replace("_", "-")
