"""Hostile documents through the real child: each has its outcome, and the next one works."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from shared.errors import DocumentRefused
from tests.support import hostile_files
from tests.support.patience import patience
from workers.parsers import ParserLimits
from workers.sandbox import Sandbox, SandboxUnavailable

LIMITS = ParserLimits(
    input_bytes_max=4_000_000,
    text_bytes_max=1_000_000,
    archive_bytes_max=20_000_000,
    pages_max=500,
    memory_bytes_max=300_000_000,
    cpu_s_max=4,
    wall_s_max=20.0,
)
ANY_DEPTH = ParserLimits(nesting_max=10**9)
GOOD = b"<html><body><p>iyi belge</p></body></html>"


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(LIMITS)
    yield sandbox
    sandbox.close()


def outcome(sandbox, data, name=None, *, lossy=False):
    """`text` or the reason it was refused with; whichever it is, the next document is read."""
    try:
        result = sandbox.parse(data, name=name, lossy=lossy).text
    except DocumentRefused as refused:
        result = refused.reason
    assert sandbox.parse(GOOD).text == "iyi belge"
    return result


BOMB = hostile_files.docx_bomb()
REFUSED = {
    # name: (document, file name, reasons that are right)
    "empty pdf": (b"", "a.pdf", "empty_document"),
    "blank docx": (
        hostile_files.docx_of(hostile_files.body(" \u200b\ufeff ")),
        "a.docx",
        "no_text",
    ),
    "elf as pdf": (b"\x7fELF\x02\x01" + b"\0" * 99, "a.pdf", "type_mismatch"),
    "text as docx": ("düz yazı".encode(), "a.docx", "type_mismatch"),
    "truncated docx": (hostile_files.docx_of()[:-40], "a.docx", "corrupt_archive"),
    "garbage zip": (b"PK\x03\x04" + os.urandom(400), "a.docx", "corrupt_archive"),
    "bad crc": (
        hostile_files.patched_entry(hostile_files.docx_of(), hostile_files.MAIN, "crc", 7),
        "a.docx",
        "corrupt_archive",
    ),
    "truncated xml": (hostile_files.docx_of(hostile_files.body()[:-9]), "a.docx", "corrupt_docx"),
    "garbage pdf": (b"%PDF-1.7\n" + os.urandom(2000), "a.pdf", "corrupt_pdf"),
    "bomb": (BOMB, "a.docx", "decompression_limit"),
    "bomb beside": (hostile_files.docx_bomb("word/media/x.png"), "a.docx", "decompression_limit"),
    "bomb that lies": (
        hostile_files.patched_entry(BOMB, hostile_files.MAIN, "size", 100),
        "a.docx",
        "decompression_limit",
    ),
    "overlapping": (hostile_files.overlapping_entries(), None, "decompression_limit"),
    "a few overlapping": (hostile_files.overlapping_entries(3), None, "decompression_limit"),
    "many entries": (
        hostile_files.docx_of(extra=[(f"x{n}", b"") for n in range(2_100)]),
        "a.docx",
        "decompression_limit",
    ),
    "zip password": (hostile_files.encrypted_flagged(), "a.docx", "encrypted_document"),
    "ole password": (hostile_files.ole("EncryptedPackage"), "a.docx", "encrypted_document"),
    "old word": (hostile_files.ole("WordDocument"), "a.doc", "unsupported_type"),
    "plain zip": (hostile_files.zip_of({"a.txt": b"merhaba"}), None, "unsupported_type"),
    "gzip bomb": (b"\x1f\x8b" + zlib.compress(b"a" * 10**6), "a.json", "type_mismatch"),
    "deep html": (hostile_files.nested("div", 120_000), None, "nesting_limit"),
    "deep rtf": (hostile_files.nested_rtf(120_000), None, "nesting_limit"),
    "open rtf": (b"{\\rtf1 {merhaba", None, "corrupt_rtf"),
    "too large": (b"<html>" + b"a" * 4_000_000, None, "too_large"),
    "many pages": (hostile_files.pdf_many_pages(501), None, "too_many_pages"),
    "double flate": (hostile_files.pdf_double_flate(9_000_000), None, "decompression_limit"),
    "pdf without text": (hostile_files.pdf(content=hostile_files.stream(b"")), None, "no_text"),
    "pdf with password": (hostile_files.pdf_with_password(), None, "encrypted_document"),
    "odd encoding": (
        hostile_files.docx_of(b'<?xml version="1.0" encoding="UTF-7"?>+ADw-a/+AD4-'),
        "a.docx",
        "forbidden_xml",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_document_is_refused_with_its_reason(sandbox, case):
    data, name, reason = REFUSED[case]

    assert outcome(sandbox, data, name) == reason


TWINS = [(hostile_files.MAIN, hostile_files.body("ikinci"))]
LOOP = "<</Type/Pages/Kids[2 0 R 3 0 R]/Count 2>>"
WITHIN_LIMITS = {
    # Either a text or a refusal is right; what may not happen is a dead worker or a long wait.
    "deep mail": hostile_files.nested_mail(3_000),
    "corrupt flate": hostile_files.pdf(
        content=hostile_files.stream(os.urandom(50_000), "/Filter/FlateDecode")
    ),
    "page loop": hostile_files.pdf(pages=LOOP),
    "prev loop": hostile_files.pdf(trailer="/Prev 9"),
    "lying count": hostile_files.pdf(pages="<</Type/Pages/Kids[3 0 R]/Count 2000000000>>"),
    "lying length": hostile_files.pdf(content=b"<</Length 999999999>>\nstream\nBT\nendstream"),
    "nested arrays": hostile_files.pdf(more=["[" * 100_000 + "]" * 100_000]),
    "self drawing": hostile_files.pdf_that_draws_itself(),
    "deep xml": hostile_files.docx_of(
        hostile_files.body().replace(b"<w:p>", b"<w:sdt>" * 20_000 + b"<w:p>", 1)
    ),
    "open comments": b"<html>" + b"<!--" * 200_000,
    "open scripts": b"<html><body>x" + b"<script " * 120_000,
    "nested tables": hostile_files.nested("table><tr><td", 900),
    "open bold": hostile_files.nested("b", 990),
}


@pytest.mark.parametrize("case", WITHIN_LIMITS)
def test_a_document_of_loops_stays_within_its_limits(sandbox, case):
    started = time.monotonic()

    outcome(sandbox, WITHIN_LIMITS[case])

    assert time.monotonic() - started < patience(LIMITS.wall_s_max + 10)


ACCEPTED = {
    "traversal names": (
        hostile_files.docx_of(extra=[("../../x.xml", b"<a/>"), ("/etc/x", b"1")]),
        "merhaba dünya",
    ),
    "nested archives": (
        hostile_files.docx_of(
            extra=[(f"word/e/{n}.docx", hostile_files.docx_of()) for n in range(12)]
        ),
        "merhaba dünya",
    ),
    "launch action": (
        hostile_files.pdf(
            catalog="<</Type/Catalog/Pages 2 0 R/OpenAction<</S/Launch/F(/bin/sh)>>"
            "/AA<</O<</S/JavaScript/JS(app.alert\\(1\\))>>>>>>"
        ),
        "merhaba pdf",
    ),
    "many objects": (hostile_files.pdf(more=["<<>>"] * 20_000), "merhaba pdf"),
    "huge image": (
        hostile_files.pdf(more=["<</Type/XObject/Subtype/Image/Width 90000/Height 90000>>"]),
        "merhaba pdf",
    ),
    "empty password": (hostile_files.pdf_with_empty_password(), "merhaba pdf"),
    "polyglot": (hostile_files.pdf() + hostile_files.docx_of(), "merhaba pdf"),
    "scripts": (b"<html><script>x</script><p>a<img src=http://127.0.0.1/></p></html>", "a"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_an_odd_but_readable_document_is_read(sandbox, case):
    data, text = ACCEPTED[case]

    assert outcome(sandbox, data) == text


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_parts_of_one_name_are_never_read(sandbox):
    assert outcome(sandbox, hostile_files.docx_of(extra=TWINS)) == "corrupt_archive"


def test_no_entity_is_ever_looked_up(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        for doctype in hostile_files.entity_attacks(address).values():
            for encoding in ("utf-8", "utf-16"):
                attack = hostile_files.with_doctype(doctype, encoding=encoding)
                assert outcome(sandbox, attack) == "forbidden_xml"
            svg = f'<?xml version="1.0"?>{doctype}<svg>&e;</svg>'.encode()
            assert outcome(sandbox, svg) == "forbidden_xml"
            beside = hostile_files.docx_of(extra=[("word/media/x.svg", svg)])
            assert outcome(sandbox, beside) == "forbidden_xml"

        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_remote_template_is_not_fetched(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        remote = (
            f'<Relationship Id="r9" Type="{hostile_files.OFFICE}/attachedTemplate" '
            f'TargetMode="External" Target="http://127.0.0.1:{server.getsockname()[1]}/t.dotm"/>'
        )
        extra = [("word/_rels/document.xml.rels", hostile_files.relations(remote))]

        assert outcome(sandbox, hostile_files.docx_of(extra=extra)) == "merhaba dünya"

        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


# ---- limits of the child itself


def pids():
    """The living children of this process."""
    alive = psutil.Process().children()
    return {child.pid for child in alive if child.status() != psutil.STATUS_ZOMBIE}


def test_a_document_that_burns_cpu_names_its_time_limit():
    with closing(Sandbox(ParserLimits(cpu_s_max=1, nesting_max=10**9))) as sandbox:
        assert outcome(sandbox, hostile_files.nested("div", 60_000)) == "time_limit"


def test_a_document_that_takes_too_long_names_its_time_limit():
    with closing(Sandbox(ParserLimits(wall_s_max=0.5, nesting_max=10**9))) as sandbox:
        assert outcome(sandbox, hostile_files.nested("div", 60_000)) == "time_limit"


def test_a_document_that_fills_memory_names_its_limit():
    wide = b"<html><body>" + b"<p>a" * 2_000_000

    with closing(Sandbox(ParserLimits(memory_bytes_max=120_000_000))) as sandbox:
        assert outcome(sandbox, wide) == "memory_limit"


def test_a_document_that_grows_while_it_is_read_names_its_limit():
    grown = hostile_files.docx_of(hostile_files.body("ab" * 600_000))
    generous = {"archive_ratio_max": 10_000, "archive_bytes_max": 10**8}

    with closing(Sandbox(ParserLimits(text_bytes_max=1_000_000, **generous))) as sandbox:
        assert outcome(sandbox, grown) == "output_limit"


def kill_when_busy(sandbox_pid, sign):
    process = psutil.Process(sandbox_pid)
    before = process.cpu_times().user
    while process.is_running() and process.cpu_times().user < before + 0.2:
        pass
    os.kill(sandbox_pid, sign)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_killed_amid_a_document_leaves_the_worker_alive(sign):
    before = pids()
    slow = hostile_files.nested("div", 60_000)

    with closing(Sandbox(ANY_DEPTH)) as sandbox, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(outcome, sandbox, slow)
        while not (born := pids() - before):
            pass
        kill_when_busy(born.pop(), sign)

        assert asked.result() == "crashed"


def test_a_child_killed_between_documents_is_replaced_unseen():
    before = pids()

    with closing(Sandbox()) as sandbox:
        sandbox.parse(GOOD)
        (child,) = pids() - before
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

        assert sandbox.parse(GOOD).text == "iyi belge"


def test_a_crash_in_a_used_child_is_judged_again_by_a_fresh_one():
    before = pids()
    page = hostile_files.nested("div", 20_000)

    with closing(Sandbox(ANY_DEPTH)) as sandbox, ThreadPoolExecutor(1) as threads:
        sandbox.parse(GOOD)
        (child,) = pids() - before
        asked = threads.submit(outcome, sandbox, page)
        kill_when_busy(child, signal.SIGSEGV)

        assert asked.result() == "merhaba"


def test_a_child_is_replaced_after_its_share_of_documents():
    before = pids()
    seen = []

    with closing(Sandbox(ParserLimits(child_documents_max=2))) as sandbox:
        for _ in range(4):
            sandbox.parse(GOOD)
            seen.append(pids() - before)

    assert [len(alive) for alive in seen] == [1, 0, 1, 0]
    assert seen[0] != seen[2]


def test_closing_leaves_no_process_behind():
    before = pids()
    with closing(Sandbox(children=2)) as sandbox:
        sandbox.parse(GOOD)
        assert len(pids() - before) == 1

    assert pids() == before


def test_many_threads_share_few_children():
    before = pids()
    pages = [f"<html><p>belge {n}</p></html>".encode() for n in range(40)]

    with closing(Sandbox(children=2)) as sandbox, ThreadPoolExecutor(8) as threads:
        texts = [parsed.text for parsed in threads.map(sandbox.parse, pages)]
        alive = pids() - before

    assert texts == [f"belge {n}" for n in range(40)]
    assert len(alive) <= 2


def test_a_thread_stopped_amid_a_document_does_not_mix_up_answers():
    def stop(*_):
        raise KeyboardInterrupt

    with closing(Sandbox(ANY_DEPTH)) as sandbox:
        previous = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        with pytest.raises(KeyboardInterrupt):
            sandbox.parse(hostile_files.nested("div", 60_000))
        signal.signal(signal.SIGALRM, previous)

        assert sandbox.parse(GOOD).text == "iyi belge"


def test_a_child_that_cannot_start_blames_no_document(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))

    with closing(Sandbox()) as sandbox, pytest.raises(SandboxUnavailable):
        sandbox.parse(GOOD)


def test_the_child_has_no_environment_no_files_and_hard_limits(monkeypatch):
    monkeypatch.setenv("AILYDIAN_CANARY", "x")
    before = pids()

    with closing(Sandbox(ParserLimits(memory_bytes_max=256 * 1024 * 1024))) as sandbox:
        sandbox.parse(GOOD)
        child = psutil.Process((pids() - before).pop())

        assert "AILYDIAN_CANARY" not in child.environ()
        assert not Path(child.cwd()).exists()
        assert child.rlimit(psutil.RLIMIT_AS) == (256 * 1024 * 1024,) * 2
        assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert child.rlimit(psutil.RLIMIT_NPROC) == (0, 0)
        assert "NoNewPrivs:\t1" in Path(f"/proc/{child.pid}/status").read_text()
        assert os.getpgid(child.pid) == child.pid


def test_the_largest_text_keeps_the_worker_small():
    script = (
        "from workers.sandbox import Sandbox\n"
        "from workers.parsers import ParserLimits\n"
        "from shared.errors import DocumentRefused\n"
        "size = ParserLimits().text_bytes_max\n"
        "sandbox = Sandbox()\n"
        "line = ('Işık ağaçta, şiir çölde ' * 40 + '\\r\\n').encode()\n"
        "data = line * (size // len(line))\n"
        "assert sandbox.parse(data).kind == 'txt'\n"
        "assert sandbox.parse(b'<html>' + data[:-len(line)]).kind == 'html'\n"
        "try:\n    sandbox.parse(data * 6)\n"
        "except DocumentRefused as refused:\n    assert refused.reason == 'too_large'\n"
        "sandbox.close()\n"
        # Not getrusage: its maximum is inherited from whoever forked us.
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)\n"
    )

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)

    assert int(ran.stdout) < 300
