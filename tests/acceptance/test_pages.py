"""What the pages show is what happens: every block is run, or listed below with the reason."""

import re
import subprocess

import pytest
import yaml

from tests.support import pages
from tests.support.masks import Ids, matches
from tests.support.pages import PROSE, Block
from tests.support.source_code import ROOT

LANGUAGES = {"console", "python", "sql", "yaml", "json", "js", "ts", "sh", PROSE, "setup"}

# Parsed, not run: the page, the first word of the block's first line that tells, and why.
PARSED_ONLY = {
    ("README.md", "make demo"): "minutes of set-up; this suite is its other half",
    ("README.md", "make setup"): "this checkout has done it",
    ("README.md", "pip wheel"): "tests/acceptance/operations/test_wheel.py does it",
    ("README.md", "await redis.xadd"): "needs Node and ioredis; redis-cli runs the same words",
    ("producers/web/README.md", "$ make clients"): "the block after it makes them, without make",
    ("producers/cli/README.md", "apiVersion: keda.sh"): "needs Kubernetes with KEDA",
    ("shared/schema/README.md", "make schema"): "its second line would run this suite",
    ("tests/README.md", "make unit"): "this suite would run itself",
    ("tests/README.md", ".venv/bin/python -m tests.support.pages"): "it would write this page",
    ("tests/README.md", "$ make soak"): "a minute of faults; tests/acceptance/faults does each",
    ("tests/benchmarks/README.md", "$ ailydian bench moderation"): "minutes, and needs its corpora",
}
_NAMED = re.compile(r"`((?:shared|producers|workers|tests)/[\w./-]+|[\w-]+\.(?:py|sql|txt|yaml))`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def skipped(page: str) -> frozenset[str]:
    """The first lines of a page's blocks that are not run."""
    return frozenset(block.first for block in _blocks(page) if _listed(block))


def _listed(block: Block) -> tuple[str, str] | None:
    listed = [key for key in PARSED_ONLY if key[0] == block.page and block.first.startswith(key[1])]
    return listed[0] if listed else None


def _text(page: str) -> str:
    return (ROOT / page).read_text()


def _blocks(page: str) -> list[Block]:
    return pages.blocks(page, _text(page))


ALL = [block for page in pages.pages() for block in _blocks(page)]
RUN = sorted({block.page for block in ALL if block.language != PROSE and not _listed(block)})


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("page", RUN)
def test_what_a_page_shows_is_what_happens(page: str):
    done = pages.run(page, _text(page), skipped=skipped(page))

    assert not done.faults, "\n\n".join(done.faults)


def test_every_block_is_run_or_listed_with_its_reason():
    unknown = [f"{block} {block.language!r}" for block in ALL if block.language not in LANGUAGES]
    not_run = [block for block in ALL if block.language in {"js", "sh"} and not _listed(block)]
    prose = [block for block in ALL if block.language == PROSE and "$ " in block.text]

    assert (unknown, not_run, prose) == ([], [], [])
    assert {_listed(block) for block in ALL} - {None} == PARSED_ONLY.keys(), "a line is not needed"


@pytest.mark.parametrize("block", [block for block in ALL if _listed(block)], ids=str)
def test_what_is_not_run_can_be_read(block: Block):
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
    elif block.language == "js":
        assert all(block.text.count(a) == block.text.count(b) for a, b in ("()", "{}", "[]"))
    else:
        shown = pages.commands(block) if block.language == "console" else ()
        script = "\n".join(one.text for one in shown) or block.text
        read = subprocess.run(
            ["bash", "-n"], input=script, check=False, text=True, capture_output=True
        )
        assert (read.returncode, read.stderr) == (0, "")


def test_links_lead_to_pages_and_headings():
    broken = []
    for page in pages.pages():
        for link in _LINK.findall(_text(page)):
            target, _, anchor = link.partition("#")
            if target.startswith("http"):
                continue
            path = (ROOT / page).parent / target if target else ROOT / page
            if not path.exists() or (anchor and anchor not in pages.anchors(path.read_text())):
                broken.append(f"{page}: {link}")

    assert broken == []


def test_files_that_pages_name_exist():
    rooms = ("shared", "producers", "workers", "tests")
    known = {path.name for room in rooms for path in (ROOT / room).rglob("*.*")}
    missing = [
        f"{page}: {name}"
        for page in pages.pages()
        for name in _NAMED.findall(pages.fenced_out(_text(page)))
        if not (ROOT / name).exists() and name not in known
    ]

    assert missing == []


def test_the_first_page_is_short():
    assert len(_text("README.md").splitlines()) <= 300


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("hello", "hello"),
        ("took 41.7 s", "took 1 m 48 s"),
        ("took 12 ms, at 2026-11-24 01:20:27 UTC", "took 1.5 s, at 2027-01-01 00:00:00 UTC"),
        ("id  01a205fd-657a-78f2-b880-955d3c41d9b4", "id   0d000000-657a-78f2-b880-000000000000"),
        ("first\n...\nlast", "first\n2\n3\nlast"),
        ("first\n...\nlast", "first\nlast"),
        ("begins ...", "begins and goes on"),
        ("wide    column  ━━━", "wide column ━"),
    ],
)
def test_what_varies_is_masked(shown: str, printed: str):
    assert matches(shown, printed, Ids())


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("hello", "hullo"),
        ("hello", "hello\nworld"),
        ("5 completed", "6 completed"),
        ("took 12 ms", "took long"),
        ("state  COMPLETED", "state  DEAD"),
        ("first\n...\nlast", "first\n2\n3"),
    ],
)
def test_an_output_that_differs_is_seen(shown: str, printed: str):
    assert not matches(shown, printed, Ids())


def test_an_id_is_the_same_id_wherever_it_stands():
    ids = Ids()
    one, two = "01a205fd-657a-78f2-b880-955d3c41d9b4", "01a205fd-657a-78f2-b880-955d3c41d9b5"
    real = "0d000000-657a-78f2-b880-000000000000"
    ids.bind(f"made {one}", f"made {real}")

    assert ids.real(f"show {one}") == f"show {real}"
    assert matches(f"again {one}", f"again {real}", ids)
    assert not matches(f"again {one}", f"again {two}", ids)
    assert not matches(f"{two} {two}", f"{one} {real}", Ids())


def test_a_page_with_another_output_fails():
    page = "```console\n$ echo hello\nhullo\n```\n"

    done = pages.run("a page", page)

    assert len(done.faults) == 1
    assert "a page:2: echo hello" in done.faults[0]
    assert pages.rewritten(page, done, "a page") == page.replace("hullo", "hello")


def test_what_is_written_keeps_the_ellipses_of_the_page():
    page = (
        "```console\n$ printf 'a 1 s\\nb\\nc\\nnew\\nend of it\\n'\na 2 s\n...\nold\nend ...\n```\n"
    )

    done = pages.run("a page", page)

    written = pages.rewritten(page, done, "a page")
    assert written.endswith("a 1 s\n...\nnew\nend ...\n```\n")
    assert pages.run("a page", written).faults == []
