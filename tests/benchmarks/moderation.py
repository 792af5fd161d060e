"""How often the local moderation is wrong on clean documents, how often right, and how fast.

    python -m tests.benchmarks.moderation [--root FOLDER]

reads the documentation below FOLDER as tests/retrieval/build_sets.py does (which names the Debian
packages: `apt-get download` and `dpkg -x PACKAGE.deb FOLDER`); where there is none, the texts of
the installed Python packages and the demo make up for it. Recall is that of tests/data/abusive.txt:
sentences of one author, so its figures are no forecast for other people's. Speed is in CPU
seconds of one core.
"""

import argparse
import gzip
import hashlib
import re
import time
from collections import Counter
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from shared.text import language as languages
from tests.retrieval import corpora
from tests.support import moderation_sets
from workers.domain.judgement.moderation import judge_many
from workers.judgement.toxicity import probabilities

FLAG_AT, BLOCK_AT = 0.5, 0.9
DOCS_MAX = 1_000
REST_MAX = 3_000
SHORT_CHARS = 200
BATCH = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--json", action="store_true", help="changes nothing: these are sentences")
    root = parser.parse_args().root
    documents = clean(root)
    for language, texts in documents.items():
        report_alarms(language, texts)
    for language, texts in rest(root).items():
        report_alarms(f"{language}, the rest", texts)
    report_classifier(documents["en"])
    for part in ("tuned", "held"):
        for language in ("tr", "en"):
            report_recall(part, language)
    for size in (1, 32, 256):
        report_speed(size, documents)


def clean(root):
    """At most `DOCS_MAX` clean documents a language, chosen by hash."""
    topics = [
        topic
        for read in (corpora.faq, corpora.apache, corpora.libreoffice, corpora.manual_pages)
        for topic in read(root)
    ]
    found = {}
    for language, shipped in (
        ("tr", moderation_sets.clean_turkish()),
        ("en", moderation_sets.clean_english()),
    ):
        texts = {topic.answer.get(language, "") for topic in topics}
        installed = {text for text in texts if len(text) >= corpora.PASSAGE_CHARS_MIN}
        chosen = installed if len(installed) >= DOCS_MAX else {*installed, *shipped}
        found[language] = sorted(chosen, key=_digest)[:DOCS_MAX]
    return found


def rest(root):
    """What `clean` leaves of the documentation, at most `REST_MAX` passages a language.

    No rule was corrected by it.
    """
    shared, found = root / "usr/share", {"tr": [], "en": []}
    for language, folder in corpora.LIBREOFFICE_FOLDERS.items():
        for path in sorted((shared / "libreoffice/help" / folder / "text").rglob("*.html")):
            found[language] += _passages(_page(path, "#DisplayArea"), corpora.PASSAGE_CHARS_MAX)
        for path in sorted((shared / "doc/apache2-doc/manual" / language).rglob("*.html")):
            found[language] += _passages(_page(path, "body"))
    for path in sorted((shared / "man/tr").glob("man*/*.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        found["tr"] += _passages(text, 2 * corpora.PASSAGE_CHARS_MAX)
    for path in sorted(shared.glob("perl/*/pod/*.pod")):
        if "faq" not in path.name:
            found["en"] += _passages(path.read_text("utf-8", "replace"))
    return {
        language: sorted(texts, key=_digest)[:REST_MAX]
        for language, texts in found.items()
        if texts
    }


def report_classifier(texts):
    """Print how the classifier alone does at each threshold, sentence by sentence."""
    asked = [one for one in moderation_sets.labelled("") if one.language == "en"]
    kinds = ("harassment", "hate", "sexual", "violence")
    abuse = [one.text for one in asked if one.category.startswith(kinds)]
    ruled = judge_many(abuse, english=lambda windows: [0.0] * len(windows))
    is_missed = [max(one.scores.values(), default=0.0) < FLAG_AT for one in ruled]
    hard = [*moderation_sets.difficult("clean"), *moderation_sets.difficult("flagged")]
    hard = [text for text in hard if languages.detect(text) == "en"]
    sentences = [it for text in texts for it in re.split(r"(?<=[.!?]) ", text) if len(it) > 30]
    found = {name: probabilities(it) for name, it in (("a", abuse), ("h", hard), ("c", sentences))}
    for threshold in (0.5, 0.7, 0.9, 0.99):
        hits = {name: [one >= threshold for one in it] for name, it in found.items()}
        new = sum(hit and missed for hit, missed in zip(hits["a"], is_missed, strict=True))
        print(
            f"classifier at {threshold}: {sum(hits['a'])} of {len(abuse)} abusive sentences,"
            f" {new} of them missed by the rules; {sum(hits['h'])} of {len(hard)} difficult clean"
            f" ones, {sum(hits['c'])} of {len(sentences)} of the documents"
        )


def report_alarms(language, texts):
    """Print what clean documents are taken for."""
    flags, blocks = Counter(), Counter()
    for start in range(0, len(texts), BATCH):
        for found in judge_many(texts[start : start + BATCH], english=probabilities):
            flags.update(name for name, score in found.scores.items() if score >= FLAG_AT)
            blocks.update(name for name, score in found.scores.items() if score >= BLOCK_AT)
    chars = sum(map(len, texts))
    print(
        f"clean {language}: {len(texts)} documents, {chars} characters;"
        f" blocked {dict(blocks)}, flagged {dict(flags)}"
    )


def report_recall(part, language):
    """Print how many labelled sentences are flagged, flagged for their kind, and blocked."""
    asked = [one for one in moderation_sets.labelled(part) if one.language == language]
    flagged = right = blocked = 0
    missed = Counter()
    for one, found in zip(
        asked, judge_many([one.text for one in asked], english=probabilities), strict=True
    ):
        kind = one.category.partition("/")[0]
        of_kind = (score for name, score in found.scores.items() if name.partition("/")[0] == kind)
        is_right = max(of_kind, default=0.0) >= FLAG_AT
        highest = max(found.scores.values(), default=0.0)
        flagged, right = flagged + (highest >= FLAG_AT), right + is_right
        blocked += highest >= BLOCK_AT
        missed.update([] if is_right else [one.category])
    print(
        f"abuse {part} {language}: {len(asked)} sentences, flagged {flagged / len(asked):.0%},"
        f" of the right kind {right / len(asked):.0%}, blocked {blocked / len(asked):.0%};"
        f" missed {dict(missed)}"
    )


def report_speed(size, documents):
    """Print short messages a CPU-second: half Turkish, half English, one in ten abusive."""
    pairs = zip(documents["tr"], documents["en"], strict=False)
    texts = [text[:SHORT_CHARS] for pair in pairs for text in pair]
    abusive = [one.text for one in moderation_sets.labelled("held")]
    texts = [abusive[at % len(abusive)] if at % 10 == 9 else it for at, it in enumerate(texts)]
    texts = texts[:512] if size > 1 else texts[:128]
    judge_many(texts[:size], english=probabilities)
    spent_s = min(_timed(texts, size) for _ in range(3))
    turkish = sum(languages.detect(text) == "tr" for text in texts) / len(texts)
    mean = sum(map(len, texts)) / len(texts)
    print(
        f"speed in batches of {size}: {len(texts) / spent_s:.0f} messages a CPU-second"
        f" ({mean:.0f} characters on average, {turkish:.0%} Turkish)"
    )


def _timed(texts, size):
    begun = time.process_time()
    for start in range(0, len(texts), size):
        judge_many(texts[start : start + size], english=probabilities)
    return time.process_time() - begun


def _page(path, selector):
    node = LexborHTMLParser(path.read_text("utf-8", "replace")).css_first(selector)
    return node.text(separator=" ") if node else ""


def _passages(text, start=0):
    text, chars = re.sub(r"\s+", " ", text), corpora.PASSAGE_CHARS_MAX
    return [text[at : at + chars] for at in range(start, len(text), chars) if len(text) - at > 300]


def _digest(text):
    return hashlib.sha256(text.encode()).digest()


if __name__ == "__main__":
    main()
