"""Reads questions and their answers out of documentation installed on the machine.

Every corpus is a list of topics; a topic has, per language, what is asked and the text that
answers it, and the one is taken out of the other: a heading or a summary never stands in its
own passage. Nothing here is shipped: the texts keep their own licences (see `build_sets.py`).
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from shared.text import language as languages

PASSAGE_CHARS_MAX: Final = 1_500  # about one chunk of 512 tokens
PASSAGE_CHARS_MIN: Final = 120
ASKED_CHARS_MIN: Final = 10

LIBREOFFICE_FOLDERS: Final = {"tr": "tr", "en": "en-US"}


@dataclass(frozen=True, slots=True)
class Topic:
    """What is asked and its answer, by language (`tr`, `en`); the key is unique in a corpus."""

    key: str
    group: str  # topics of one group (a page) go to the same split
    asked: dict[str, str]
    answer: dict[str, str]


def faq(root: Path) -> list[Topic]:
    """Real English questions: Perl's, Python's and Debian's FAQ."""
    pairs = [*_perl_faq(root), *_python_faq(root), *_debian_faq(root)]
    return [Topic(key, key, {"en": asked}, {"en": answer}) for key, asked, answer in pairs]


def apache(root: Path) -> list[Topic]:
    """The Apache manual: a directive's summary, a section's heading; Turkish and English."""
    manual = root / "usr/share/doc/apache2-doc/manual"
    topics = []
    for path in sorted((manual / "tr").rglob("*.html")):
        page = path.relative_to(manual / "tr")
        turkish, english = (_apache_page(manual / language / page) for language in ("tr", "en"))
        for anchor in turkish.keys() & english.keys():
            pairs = {"tr": turkish[anchor], "en": english[anchor]}
            topics.append(_topic(f"{page.with_suffix('')}#{anchor}", str(page), pairs))
    return sorted(topics, key=lambda topic: topic.key)


def libreoffice(root: Path) -> list[Topic]:
    """Titles of LibreOffice's help pages; only pages whose title has been translated."""
    help_ = root / "usr/share/libreoffice/help"
    topics = []
    for path in sorted((help_ / "tr/text").rglob("*.html")):
        page = path.relative_to(help_ / "tr")
        pairs = {}
        for language, folder in LIBREOFFICE_FOLDERS.items():
            area = _node(help_ / folder / page, "#DisplayArea")
            title = area.css_first("h1,h2") if area else None
            if area and title:
                asked = _text(title)
                title.decompose()
                pairs[language] = (asked, _text(area))
        # Titles and bodies are translated one by one: some Turkish pages are English below.
        translated = len(pairs) == len(LIBREOFFICE_FOLDERS) and pairs["tr"][0] != pairs["en"][0]
        if translated and languages.detect(pairs["tr"][1][:PASSAGE_CHARS_MAX]) == "tr":
            topics.append(_topic(str(page.with_suffix("")), str(page), pairs))
    return topics


def manual_pages(root: Path) -> list[Topic]:
    """Turkish manual pages: the one-line summary asks for the description."""
    topics = []
    for path in sorted((root / "usr/share/man/tr").glob("man*/*.gz")):
        sections = _roff_sections(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        _, _, asked = sections.get("İSİM", "").partition(" - ")
        answer = sections.get("AÇIKLAMA", "")
        if asked and answer:
            topics.append(_topic(path.stem, path.stem, {"tr": (asked, answer)}))
    return topics


def usable(topics: list[Topic], asking: str, answering: str) -> list[Topic]:
    """Keep topics that can be asked in one language and answered in the other.

    Args:
        topics: A corpus.
        asking: Language of the questions, `tr` or `en`.
        answering: Language of the passages.

    Returns:
        Topics with both texts long enough, whose question and passage stand in the corpus once
        (a heading such as "Examples" is on many pages and asks for none of them).
    """
    fit = [
        topic
        for topic in topics
        if len(topic.asked.get(asking, "")) >= ASKED_CHARS_MIN
        and " " in topic.asked[asking]
        and len(topic.answer.get(answering, "")) >= PASSAGE_CHARS_MIN
    ]
    asked = Counter(topic.asked[asking].casefold() for topic in fit)
    answers = Counter(topic.answer[answering] for topic in fit)
    return [
        topic
        for topic in fit
        if asked[topic.asked[asking].casefold()] == 1 and answers[topic.answer[answering]] == 1
    ]


def _topic(key: str, group: str, pairs: dict[str, tuple[str, str]]) -> Topic:
    asked = {language: pair[0].strip(" .") for language, pair in pairs.items()}
    answer = {language: pair[1][:PASSAGE_CHARS_MAX] for language, pair in pairs.items()}
    return Topic(key, group, asked, answer)


def _perl_faq(root: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(root.glob("usr/share/perl/*/pod/perlfaq[1-9].pod")):
        for number, part in enumerate(path.read_text("utf-8").split("\n=head2 ")[1:]):
            asked, _, rest = part.partition("\n\n")
            body = rest.partition("\n=head1 ")[0]
            text = re.sub(r"[A-Z]<+ ?(.*?) ?>+", r"\1", f"{asked}\n{body}")
            asked, _, body = text.partition("\n")
            yield f"{path.stem}-{number}", asked, _plain(body)


def _python_faq(root: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(root.glob("usr/share/doc/python3*/html/faq/*.html")):
        for section in LexborHTMLParser(path.read_text("utf-8")).css("section[id]"):
            heading = section.css_first("h2,h3")
            if heading is None or section.css_first("section") is not None:
                continue
            asked = _text(heading)
            heading.decompose()
            if asked.endswith("?"):
                yield f"python-{path.stem}-{section.id}", asked, _plain(_text(section))


def _debian_faq(root: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(root.glob("usr/share/doc/debian/FAQ/*.en.html")):
        tree = LexborHTMLParser(path.read_text("utf-8"))
        for number, section in enumerate(tree.css("div.section")):
            heading = section.css_first("h2.title,h3.title")
            asked = re.sub(r"^[\d.]+\s*", "", _text(heading)) if heading else ""
            if heading is not None and asked.endswith("?"):
                heading.decompose()
                yield f"debian-{path.stem}-{number}", asked, _plain(_text(section))


def _apache_page(path: Path) -> dict[str, tuple[str, str]]:
    """Read a page's directives and sections by the anchor of their heading."""
    pairs: dict[str, tuple[str, str]] = {}
    page = _node(path, "html")
    # A page that nobody has translated stands in the Turkish folder in English.
    if page is None or page.attributes.get("lang") not in path.parts:
        return pairs
    for section in page.css("div.directive-section, div.section"):
        heading, table = section.css_first("h2[id]"), section.css_first("table.directive")
        if heading is None or not heading.id:
            continue
        summary = table.css_first("td") if table else None
        asked, key = _text(summary or heading), heading.id
        for node in (heading, table, section.css_first("table.related")):
            if node is not None:
                node.decompose()
        pairs[key] = (asked, _text(section))
    return pairs


def _roff_sections(page: str) -> dict[str, str]:
    """Cut a manual page at .SH and strip the markup."""
    sections: dict[str, str] = {}
    for part in re.split(r"^\.SH ", page, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        body = re.sub(r'^\.(?:[BI]|IP|TP)\b\s*"?', "", body, flags=re.MULTILINE)
        body = re.sub(r"^[.'].*$", " ", body, flags=re.MULTILINE)
        body = re.sub(r"\\f[A-Z]|\\&", "", body).replace("\\-", "-")
        sections[name.strip().strip('"')] = " ".join(body.split())
    return sections


def _node(path: Path, selector: str) -> LexborNode | None:
    return LexborHTMLParser(path.read_text("utf-8")).css_first(selector) if path.exists() else None


def _text(node: LexborNode) -> str:
    return " ".join(node.text(separator=" ").replace("¶", "").split())


def _plain(text: str) -> str:
    return " ".join(text.split())[:PASSAGE_CHARS_MAX]
