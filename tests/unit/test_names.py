"""Names that a stranger can search for, and help for every option."""

import ast
from collections import defaultdict
from collections.abc import Iterator

import click

from producers import cli
from tests.support import source_code

ROOMS = ("shared", "producers", "workers")


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

    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_option_of_the_command_line_has_a_help_text():
    without = [name for name, one in options(cli.main, "ailydian") if not (one.help or one.hidden)]

    assert without == []
