"""Names and words that a stranger can search for."""

import ast
from collections import defaultdict

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


def test_public_classes_have_unique_names():
    places = defaultdict(list)
    for room in ROOMS:
        for path in source_code.files(room):
            for node in source_code.nodes(path):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(f"{path}:{node.lineno}")

    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: twice[name] for name in twice.keys() - SHARED_NAMES} == {}
