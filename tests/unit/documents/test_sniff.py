"""What a document is comes from its bytes; its name only chooses between kinds of text."""

import pytest

from shared.errors import DocumentRefused
from tests.support import hostile_files
from workers.parsers import sniff

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30
MAIL = b"From: a@example.org\nTo: b@example.org\nSubject: konu\n\nmerhaba"
CASES = {
    "pdf under any name": (hostile_files.pdf(), "rapor.txt", "pdf"),
    "pdf behind junk": (b"junk\n" + hostile_files.pdf(), None, "pdf"),
    "text about pdf": (b"A file starts with %PDF-1.7, they say.", None, "txt"),
    "archive": (hostile_files.docx_of(), "a.bin", "archive"),
    "rtf": (b"{\\rtf1 merhaba}", None, "rtf"),
    "html": (b"<!DOCTYPE html><html><p>a</p></html>", None, "html"),
    "many comments": (b"<!--a-->" * 500 + b"merhaba", None, "txt"),
    "html behind comments": (b"<!--a-->\n" * 50 + b"<html><p>a", None, "html"),
    "html in utf-16": ("<html><p>ışık".encode("utf-16"), None, "html"),
    "xhtml": (b'<?xml version="1.0"?>\n<html xmlns="x"><p>a</p></html>', None, "html"),
    "fragment with name": (b"<p>merhaba</p>", "a.html", "html"),
    "html by name without tags": (b"merhaba", "a.html", "txt"),
    "xml": (b'<?xml version="1.0"?><kitap>a</kitap>', None, "xml"),
    "svg": (b"<svg><text>a</text></svg>", "a.svg", "xml"),
    "mail": (MAIL, None, "eml"),
    "mail as md stays md": (MAIL, "a.md", "md"),
    "prose with one colon": (b"Subject: nothing\n\nmore", None, "txt"),
    "md by name": (b"duz", "a.MD", "md"),
    "md by structure": (b"# Title\n\ntext\n\n```\ncode\n```\n", None, "md"),
    "one heading sign is prose": (b"# not a title\n", None, "txt"),
    "csv by name": (b"a", "a.csv", "csv"),
    "csv by structure": (b"a;b;c\n1;2;3\n4;5;6\n", None, "csv"),
    "prose with commas": (b"one, two\nthree\nfour, five, six\nseven", None, "txt"),
    "even prose": (b"one, two, three\n" * 5, None, "txt"),
    "json object": (b'{"a": 1}', None, "json"),
    "json array": (b' [1, "x"] \n', None, "json"),
    "json by name": (b'{"a": 1}\n{"a": 2}\n', "a.jsonl", "json"),
    "bracketed prose": (b"[note] merhaba", None, "txt"),
    "nothing special": ("düz yazı".encode(), None, "txt"),
    "ansi colours": (b"\x1b[31mred\x1b[0m plain", None, "txt"),
}
IN_CHILD = {"pdf", "archive", "rtf", "html", "eml"}


@pytest.mark.parametrize("case", CASES)
def test_the_kind_comes_from_the_content(case):
    data, name, expected = CASES[case]

    kind = sniff(data, name)

    assert kind.name == expected
    assert kind.needs_child == (expected in IN_CHILD)


REFUSED = {
    "nothing": (b"", "a.txt", "empty_document"),
    "elf as pdf": (b"\x7fELF\x02", "a.pdf", "type_mismatch"),
    "png as pdf": (PNG, "a.pdf", "type_mismatch"),
    "png as txt": (PNG, "a.txt", "type_mismatch"),
    "png": (PNG, "a.png", "unsupported_type"),
    "png without name": (PNG, None, "unsupported_type"),
    "text as docx": (b"merhaba", "a.docx", "type_mismatch"),
    "blank as docx": (b" \n", "a.docx", "no_text"),
    "gzip": (b"\x1f\x8b\x08", None, "unsupported_type"),
    "mp4": (b"\0\0\0\x18ftypmp42", None, "unsupported_type"),
    "unknown binary": (bytes(range(32)) * 9, None, "unsupported_type"),
    "encrypted office": (hostile_files.ole("EncryptedPackage"), "a.xlsx", "encrypted_document"),
    "old office": (hostile_files.ole("Workbook"), "a.xls", "unsupported_type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(case):
    data, name, reason = REFUSED[case]

    with pytest.raises(DocumentRefused) as refused:
        sniff(data, name)

    assert refused.value.reason == reason


HOSTILE_NAMES = [
    "../../etc/passwd",
    "a\0.txt",
    "a\r\nb.txt",
    "\u202egnp.txt",
    "\ud800.txt",
    "x" * 5_000,
    "",
    ".",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_changes_nothing(name):
    assert sniff(b"merhaba", name).name == "txt"
