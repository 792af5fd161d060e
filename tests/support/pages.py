"""Runs what the pages show: every console block, program, statement and definition in them.

A page is run from its top to its bottom in an empty folder, in one shell, on embedded servers.

- `console`: lines after `$ ` are run; what follows is what they must print. Ids, times, spans of
  time, ports and memory are masked; an id that appears stands for the real one from then on. A
  line `...` stands for any lines, `...` or `…` at the end of a line for its rest. A command that
  only looks (`show`, `list`, `status`) is repeated until it sees what the page says, for a while.
- A block whose first line is a comment with a path is written to that file; where the project has
  that file, the block is a quotation of it.
- `python` without a path is run, `sql` is run as the platform's user (or `-- as the owner`), `json`
  is parsed, a workflow is validated.
- `<!-- setup` begins a console block that readers do not see.

`python -m tests.support.pages --write README.md` runs a page and writes what was printed; with
`--all` every page, one after another.
"""

import argparse
import json
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import yaml

from shared.servers import embedded
from shared.servers.embedded import Servers
from shared.settings import Settings
from shared.workflow import reading
from tests.support import page_writing
from tests.support.masks import Ids, matches
from tests.support.page_shell import Shell
from tests.support.source_code import ROOT

_FENCE = re.compile(r"^```(\w*)\s*$")
_PATH = re.compile(r"^(?:#|--|//) ([\w./-]+\.(?:py|ts|ya?ml|sql|jsonl?))\b")
_ERROR = re.compile(r"^-- ERROR: +(.*)$", re.MULTILINE)
# What is in a page and is no program: drawings, formulas, forms of commands.
PROSE = "text"
# Where the pages serve /metrics; each run has a port of its own in its place.
PORT = "8080"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and where the first of them stands."""

    page: str
    at: int
    language: str
    lines: list[str] = field(compare=False)

    @property
    def first(self) -> str:
        return self.lines[0] if self.lines else ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def __str__(self) -> str:
        return f"{self.page}:{self.at}"


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines that the page has below it."""

    at: int
    text: str
    printed: list[str]


def pages() -> list[str]:
    """Every page of the project, by its path; the documents of the demo are no pages."""
    found = [*ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md")]
    for room in ("shared", "producers", "workers", "tests"):
        found += [it for it in (ROOT / room).rglob("*.md") if "documents" not in it.parts]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page, hidden ones included, in their order."""
    found, opened = [], None
    for at, line in enumerate(text.splitlines(), 1):
        if opened is not None:
            end = "-->" if opened.language == "setup" else "```"
            if line.strip() == end:
                found.append(opened)
                opened = None
            else:
                opened.lines.append(line)
        elif line.startswith("<!-- setup"):
            opened = Block(page, at + 1, "setup", [])
        elif fence := _FENCE.match(line):
            opened = Block(page, at + 1, fence[1], [])
    assert opened is None, f"{opened} is not closed"
    return found


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block; one that ends in a backslash goes on in the next line."""
    current: Command | None = None
    for at, line in enumerate(block.lines, block.at):
        if current is not None and current.text.endswith("\\"):
            current = replace(current, text=f"{current.text}\n{line}")
        elif line.startswith("$ "):
            if current is not None:
                yield current
            current = Command(at, line.removeprefix("$ "), [])
        else:
            assert current is not None, f"{block}: output without a command"
            current.printed.append(line)
    if current is not None:
        yield current


def fenced_out(text: str) -> str:
    """The prose of a page."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """What a link may name after `#`: the headings of a page, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


class Run:
    """One page being run: its folder, servers and shell, and the ids that have appeared."""

    def __init__(self, shell: Shell, servers: Servers) -> None:
        self._shell = shell
        self._servers = servers
        self.ids = Ids()
        self.faults: list[str] = []
        self._port = _free_port()
        self._given: list[str] = []  # commands, as they were run
        self._files: dict[str, Block] = {}
        # line of the page -> what the command there printed instead of what the page has
        self.printed: dict[int, list[str]] = {}

    def block(self, block: Block) -> None:
        """Do what a block asks for; what is not as the page says is noted."""
        path = _PATH.match(block.first)
        if block.language in {"console", "setup"}:
            for command in commands(block):
                self._command(block, command)
        elif path is not None:
            self._file(block, path[1])
        elif block.language == "python":
            code, printed = self._shell.python(self.ids.real(block.text))
            if code:
                self.faults.append(f"{block}: {printed}")
        elif block.language == "sql":
            self._sql(block)
        elif block.language in {"yaml", "json"}:
            self._parsed(block)

    def end(self) -> None:
        """Note the files that no command of the page has used."""
        for stem, block in self._files.items():
            if not any(stem in command for command in self._given):
                self.faults.append(f"{block}: no command uses this file")

    def _command(self, block: Block, command: Command) -> None:
        expected = "\n".join(command.printed)
        real = self.ids.real(command.text).replace(PORT, str(self._port))
        self._given.append(real)
        code, printed = self._shell.run(
            real,
            until=(lambda text: matches(expected, text, self.ids)) if expected.strip() else None,
        )
        printed = printed.replace(f"{ROOT}/", "")  # in tracebacks: a page knows no machine
        if block.language == "setup":
            if code:
                self.faults.append(f"{block.page}:{command.at}: {command.text}: {printed}")
            return
        if matches(expected, printed, self.ids):
            self.ids.bind(expected, printed)
            if code and "Error" not in printed and not expected.strip():
                self.faults.append(f"{block.page}:{command.at}: it ended {code}")
            return
        self.ids.pair(expected, printed)
        self.printed[command.at] = printed.rstrip("\n").split("\n") if printed.strip() else []
        self.faults.append(
            f"{block.page}:{command.at}: {command.text}\n--- the page\n{expected}\n"
            f"--- printed, exit {code}\n{printed}"
        )

    def _file(self, block: Block, path: str) -> None:
        if (ROOT / path).exists():  # a quotation, after the line that says from where
            quoted = "\n".join(block.lines[1:]).strip()
            if quoted not in (ROOT / path).read_text():
                self.faults.append(f"{block}: this does not stand in {path}")
            return
        self._files[Path(path).stem] = block
        (self._shell.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._shell.folder / path).write_text(block.text)

    def _sql(self, block: Block) -> None:
        refusal = _ERROR.search(block.text)
        with psycopg.connect(self._servers.database_url) as conn:
            owner = block.first.startswith("-- as the owner")
            conn.execute(f"SET ROLE {'ailydian_owner' if owner else 'ailydian_platform'}")
            try:
                conn.execute(self.ids.real(block.text))
                told = ""
            except psycopg.Error as error:
                told = str(error).splitlines()[0]
        if (refusal[1] if refusal else "") != told:
            self.faults.append(f"{block}: Postgres says {told!r}")

    def _parsed(self, block: Block) -> None:
        try:
            if block.language == "json":
                json.loads(block.text)
            elif "steps" in yaml.safe_load(block.text):
                reading.read(block.text)
        except Exception as error:  # of any kind: the page is wrong
            self.faults.append(f"{block}: {error}")


def run(page: str, text: str, *, skipped: frozenset[str] = frozenset()) -> Run:
    """Run a page.

    Args:
        page: Its path, for what is told of it.
        text: What stands in it.
        skipped: First lines of the blocks that are not run.

    Returns:
        The run, with its faults.
    """
    folder = Path(tempfile.mkdtemp(prefix="ailydian-tests-"))
    try:
        with (
            embedded.use(Settings(home=folder / ".ailydian"), durable=False) as servers,
            Shell(folder, servers.redis_url) as shell,
        ):
            done = Run(shell, servers)
            for block in blocks(page, text):
                if block.language != PROSE and block.first not in skipped:
                    done.block(block)
            done.end()
            return done
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def rewritten(text: str, done: Run, page: str) -> str:
    """The page's text with what its commands have printed; ids that it has stay as they are."""
    lines = text.splitlines()
    found = [
        (command.at, command)
        for block in blocks(page, text)
        if block.language == "console"
        for command in commands(block)
    ]
    for at, command in reversed(found):
        if at in done.printed:
            begin = at - 1 + len(command.text.split("\n"))
            blank = [""] if command.printed and not command.printed[-1].strip() else []
            shown = command.printed[: len(command.printed) - len(blank)]
            written = page_writing.merged(shown, done.printed[at], done.ids)
            lines[begin : begin + len(command.printed)] = written + blank
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the pages that are named, and say or write what they do not have right.

    Returns:
        1 if something is wrong that was not written.
    """
    from tests.acceptance.test_pages import RUN, skipped  # noqa: PLC0415 - the table is there

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write what was printed")
    parser.add_argument("--all", action="store_true", help="every page that has something to run")
    parser.add_argument("pages", nargs="*", type=Path)
    asked = parser.parse_args()
    if missing := [str(it) for it in asked.pages if not it.is_file()]:
        parser.error(f"no such page: {', '.join(missing)}")
    left = 0
    for page in RUN if asked.all else [str(it.resolve().relative_to(ROOT)) for it in asked.pages]:
        text = (ROOT / page).read_text()
        done = run(page, text, skipped=skipped(page))
        written = len(done.printed) if asked.write else 0
        if asked.write:
            (ROOT / page).write_text(rewritten(text, done, page))
        counts = f"{page}: {len(done.faults)} faults, {written} of them written"
        print("\n\n".join([*done.faults, counts]), flush=True)
        left += len(done.faults) - written
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
