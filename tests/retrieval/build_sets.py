"""Builds the large evaluation sets from documentation installed on this machine.

    python -m tests.retrieval.build_sets OUT [--root /]

writes OUT/dev/NAME/{docs,queries}.jsonl and OUT/check/NAME/..., each line
`{"id", "text", "language"}`, a query with `"relevant": [doc ids]` besides. Weights are chosen on
dev and judged on check; a page's topics are all in one of the two. A corpus that is not installed
is left out with a note. Debian packages, and the licence each text keeps (none is shipped here):

    apache2-doc                                  Apache-2.0
    debian-faq, perl-doc, python3-doc            own, Artistic/GPL, PSF-2.0
    libreoffice-help-tr, libreoffice-help-en-us  MPL-2.0
    manpages-tr                                  GPL and others

They need no installation: `apt-get download` and `dpkg -x PACKAGE.deb FOLDER`, then
`--root FOLDER`.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.retrieval import corpora
from tests.retrieval.corpora import Topic

DOCS_MAX: Final = 600
QUERIES_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Recipe:
    """One evaluation set: a corpus asked in one language, answered in another."""

    name: str
    read: Callable[[Path], list[Topic]]
    asking: str
    answering: str


RECIPES: Final = (
    Recipe("faq_en", corpora.faq, "en", "en"),
    Recipe("apache_tr", corpora.apache, "tr", "tr"),
    Recipe("apache_en", corpora.apache, "en", "en"),
    Recipe("apache_tr_en", corpora.apache, "tr", "en"),
    Recipe("apache_en_tr", corpora.apache, "en", "tr"),
    Recipe("libreoffice_tr", corpora.libreoffice, "tr", "tr"),
    Recipe("libreoffice_en", corpora.libreoffice, "en", "en"),
    Recipe("libreoffice_tr_en", corpora.libreoffice, "tr", "en"),
    Recipe("libreoffice_en_tr", corpora.libreoffice, "en", "tr"),
    Recipe("man_tr", corpora.manual_pages, "tr", "tr"),
)


def main() -> None:
    """Build every set whose corpus is installed and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path, default=Path("/"))
    arguments = parser.parse_args()
    read: dict[Callable[[Path], list[Topic]], list[Topic]] = {}
    for recipe in RECIPES:
        if recipe.read not in read:
            read[recipe.read] = recipe.read(arguments.root)
        topics = corpora.usable(read[recipe.read], recipe.asking, recipe.answering)
        if not topics:
            print(f"{recipe.name}: not installed")
        for split in ("dev", "check") if topics else ():
            folder = arguments.out / split / recipe.name
            print(f"{split}/{recipe.name}: {write_set(folder, recipe, topics, split)}")


def write_set(folder: Path, recipe: Recipe, topics: list[Topic], split: str) -> str:
    """Write one split of one set.

    Args:
        folder: Where docs.jsonl and queries.jsonl go; created.
        recipe: Names the languages.
        topics: All usable topics of the corpus.
        split: `dev` or `check`.

    Returns:
        What was written, for a person to read.
    """
    ordered = sorted(topics, key=lambda topic: _digest(topic.key))
    own = [topic for topic in ordered if _split_of(topic.group) == split]
    asked = own[:QUERIES_MAX]
    # Small corpora borrow the passages, never the questions, of the other split.
    pool = own if len(own) >= DOCS_MAX // 2 else own + [t for t in ordered if t not in own]
    folder.mkdir(parents=True, exist_ok=True)
    docs = [
        {"id": topic.key, "text": topic.answer[recipe.answering], "language": recipe.answering}
        for topic in pool[:DOCS_MAX]
    ]
    queries = [
        {
            "id": f"q:{topic.key}",
            "text": topic.asked[recipe.asking],
            "language": recipe.asking,
            "relevant": [topic.key],
        }
        for topic in asked
    ]
    _write(folder / "docs.jsonl", docs)
    _write(folder / "queries.jsonl", queries)
    return f"{len(docs)} docs, {len(queries)} queries"


def _split_of(group: str) -> str:
    return "dev" if _digest(group)[0] % 2 else "check"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
