"""Names and words that a stranger can search for."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import click
import pytest

from producers import cli
from tests.support import source_code

ROOMS = ("shared", "producers", "workers")
# Names that two classes still share.
SHARED_NAMES = {
    "Answer",
    "Ask",
    "Candidate",
    "Completion",
    "Found",
    "Kind",
    "Reading",
    "Standing",
    "Step",
    "Wait",
    "Word",
}
# What is written in plain words already.
PLAIN = (
    "producers",
    "shared/egress",
    "shared/ledger",
    "shared/models",
    "shared/observability",
    "shared/operations",
    "shared/servers",
    "shared/db.py",
    "shared/errors.py",
    "shared/settings.py",
)
# An operator searches for "invalid", "again", "anyone who"; nobody searches for these.
IDIOM = re.compile(
    r"(?<!there )\b(is|are) no\b(?! longer)|\banew\b|\bwhoever\b|\b(for|of) who\b|\bnobody of\b"
    r"|\bcomes? along\b",
    re.IGNORECASE,
)


def idiom(text: str) -> list[str]:
    return [found.group() for found in IDIOM.finditer(text)]


def options(command: click.Command, name: str) -> Iterator[tuple[str, click.Option]]:
    for one in command.params:
        if isinstance(one, click.Option):
            yield f"{name} {one.opts[0]}", one
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None, inner
            yield from options(found, f"{name} {inner}")


def test_public_classes_have_unique_names():
    places = defaultdict(list)
    for room in ROOMS:
        for path in source_code.files(room):
            for node in source_code.nodes(path):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(f"{path}:{node.lineno}")

    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: twice[name] for name in twice.keys() - SHARED_NAMES} == {}


def test_no_private_idiom_is_left():
    broken = []
    for path in source_code.files(*ROOMS):
        if path.startswith(PLAIN):
            lines = (source_code.ROOT / path).read_text().splitlines()
            broken += [
                f"{path}:{at} {one}" for at, line in enumerate(lines, 1) for one in idiom(line)
            ]

    assert broken == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'x' is no duration", ["is no"]),
        ("those are no card", ["are no"]),
        ("written anew by Whoever came", ["anew", "Whoever"]),
        ("for who asks", ["for who"]),
        ("there is no such file", []),
        ("it is no longer used", []),
    ],
)
def test_the_idiom_is_found_where_it_is_used(text, found):
    assert idiom(text) == found


def test_every_option_of_the_command_line_has_a_help_text():
    without = [name for name, one in options(cli.main, "ailydian") if not (one.help or one.hidden)]

    assert without == []
