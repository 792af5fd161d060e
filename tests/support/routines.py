"""What is wrong with the functions of the schema, without a server: sizes, names, what is unused.

PL/pgSQL compiles what it never runs and says nothing of a variable that nobody reads. `make check`
runs this page; the tests run it too, and beside it Postgres's own checks.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from shared import schema
from shared.schema import versions

LINES_MAX = 60

# A parameter that nothing reads, and why it stays.
UNUSED_PARAMETERS = {
    ("ailydian_delegate_step", "p_lease_s"): "callers of earlier versions pass it, by position",
}

ROUTINE = re.compile(
    r"""(?msx)^[ ]*CREATE[ ]OR[ ]REPLACE[ ](?:FUNCTION|PROCEDURE)[ ](?:public\.)?(?P<name>[\w%$]+)
    \s*(?P<arguments>\(.*?)\bAS[ ](?P<quote>\$\w*\$)(?P<body>.*?)(?P=quote)
    | ^DO[ ](?P<block>\$\$)(?P<inner>.*?)\$\$;"""
)
LITERAL = re.compile(r"--[^\n]*|(?s:(\$\w+\$).*?\1)|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
DECLARED = re.compile(r"(?s)\bDECLARE\b(.*?)\bBEGIN\b")
COUNTER = re.compile(r"\bFOR\s+(\w+)\s+IN\s+(?:REVERSE\s+)?[^;]*?\.\.")
RECORD = re.compile(r"(?i)(\w+)\s+(?:CONSTANT\s+)?RECORD\b")
# Where a variable is written, and nothing is read of it.
WRITTEN = re.compile(
    r"""(?x)\bINTO\s+(?:STRICT\s+)?\w+(?:\s*,\s*\w+)* | \b\w+\s*(?:\[[^\]]*\]\s*)?:=
    | \bFOR(?:EACH)?\s+\w+\s+IN | \bGET\s+DIAGNOSTICS\s+\w+\s*="""
)
OUTPUT = re.compile(r"(?i)^OUT\s")


@dataclass(frozen=True)
class Routine:
    """A function, a procedure or a DO block, as its file has it."""

    place: str
    name: str
    lines: int
    parameters: list[str]
    variables: list[str]
    counters: list[str]
    records: list[str]
    code: str

    def problems(self) -> Iterator[str]:
        """What is wrong with it, a sentence each."""
        if self.lines > LINES_MAX:
            yield f"has {self.lines} lines, at most {LINES_MAX}"
        yield from self._misnamed()
        yield from self._unused()
        for name in self.records:
            if sum(_uses(name, it) for it in WRITTEN.findall(self.code)) > 1:
                yield f"{name} holds first one row, then another: give each a name"

    def _misnamed(self) -> Iterator[str]:
        named = [(it, "p_") for it in self.parameters]
        named += [(it, "v_") for it in self.variables + self.counters]
        for name, prefix in named:
            if not name.startswith(prefix):
                yield f"{name} must be named {prefix}{name}"
        for name, times in Counter(name for name, _ in named).items():
            if times > 1:
                yield f"{name} is declared twice: one shadows the other"

    def _unused(self) -> Iterator[str]:
        read = WRITTEN.sub(" ", self.code)
        for name in self.variables:
            if not _uses(name, self.code):
                yield f"{name} is declared and never used"
            elif not _uses(name, read):
                yield f"{name} is set and never read"
        for name in self.parameters:
            if not _uses(name, self.code) and (self.name, name) not in UNUSED_PARAMETERS:
                yield f"{name} is never used"


def read(text: str, place: str) -> Iterator[Routine]:
    """The routines of a file, those that another one makes among them."""
    for found in ROUTINE.finditer(text):
        body = found["body"] or found["inner"]
        line = text.count("\n", 0, found.start()) + 1
        code = LITERAL.sub(" ", body)
        declared = "".join(DECLARED.findall(code))
        yield Routine(
            f"{place}:{line}",
            found["name"] or "DO",
            found[0].count("\n") + 1,
            list(_parameters(found["arguments"] or "()")),
            [it[0] for one in declared.split(";") if (it := re.findall(r"\w+", one))],
            COUNTER.findall(code),
            RECORD.findall(declared),
            # A declaration's own name is no use of it; the value it begins with may use others.
            DECLARED.sub(lambda it: re.sub(r"(?:^|(?<=;))\s*\w+", " ", it[1]), code),
        )
        if found["name"]:
            yield from read(body, f"{place}:{line}")


def problems() -> list[str]:
    """What is wrong with the functions and blocks of the schema, with the place of each."""
    found = []
    for path in schema.files():
        text = path.read_text()
        place = path.relative_to(versions.FOLDER.parents[1]).as_posix()
        if path in schema.functions() and not text.startswith("--"):
            found.append(f"{place} does not begin with a comment: what it does, locks and returns")
        for routine in read(text, place):
            found += [f"{routine.place} {routine.name}: {it}" for it in routine.problems()]
    return found


def _uses(name: str, code: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\b", code) is not None


def _parameters(arguments: str) -> Iterator[str]:
    """Names of what is passed in; arguments begin with the bracket that opens their list."""
    text = LITERAL.sub(lambda it: it[0] if it[0].startswith('"') else "''", arguments)
    depth, one = 0, ""
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if depth == 0 or (depth == 1 and sign == ","):
            if one.strip() and not OUTPUT.match(one.strip()):
                yield re.sub(r"^(VARIADIC|INOUT|IN)\s+", "", one.strip()).split()[0]
            one = ""
            if depth == 0:
                return
        elif depth > 1 or sign != "(":
            one += sign


if __name__ == "__main__":
    sys.exit("\n".join(problems()) or None)
