"""The documents that `ailydian demo` ingests, and questions that they answer.

`SOURCES.md` lists each document's origin and licence.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

HITS: Final = 5


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A search and the document that must be among its first `HITS` hits."""

    text: str
    language: Literal["tr", "en"]
    expected: str
    across: bool = False  # the question and the document are in different languages


QUESTIONS: Final = (
    DemoQuestion("How do I rotate the web server's log files?", "en", "apache-logs.en.html"),
    DemoQuestion("Hizmet reddi saldırısına ne yapılır?", "tr", "apache-security-tips.tr.html"),
    DemoQuestion("Is primary school free of charge?", "en", "udhr.en.md"),
    DemoQuestion("Bisikletin bataryası kaç saatte dolar?", "tr", "kullanim-kilavuzu.pdf"),
    DemoQuestion("Kutusu ezilmiş bisiklet için müşteri ne istiyor?", "tr", "musteri-mektubu.eml"),
    DemoQuestion("Katlanır bisiklet ne kadar?", "tr", "fiyat-listesi.xlsx"),
    DemoQuestion("Garanti neleri kapsamaz?", "tr", "service-terms.docx", across=True),
    DemoQuestion(
        "How long does it take to charge the battery?", "en", "kullanim-kilavuzu.pdf", across=True
    ),
)


def documents() -> list[Path]:
    """Return the packaged documents, sorted by name."""
    folder = Path(__file__).parent / "documents"
    return sorted(path for path in folder.iterdir() if path.is_file())
