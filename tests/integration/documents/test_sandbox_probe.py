"""What a parser's process could do, tried on each kind of machine; and what follows from it."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from shared import settings
from shared.errors import SandboxUnavailable
from tests.support import hostile_files, source_code
from workers import sandbox_level, sandbox_probe
from workers.parsers import sniff
from workers.sandbox import Sandbox

ROOT = Path(source_code.__file__).parents[2]
NOBODY = 65534
HTML = b"<html><body><p>iyi belge</p></body></html>"
# Each acts as a worker and forks the process in which the acts are tried: a plain user may not
# be able to read the interpreter, so nothing is imported after the user was changed.
TRIED = """
import ctypes, json, os, sys
sys.path.insert(0, sys.argv[1])
from dataclasses import asdict
from tests.support import weak_kernel
from workers import sandbox_probe
wanted = sys.argv[2:]
with sandbox_probe._laid_out() as bait:
    if "plain" in wanted and os.geteuid() == 0:
        for path in (bait.folder, *(bait.path(name) for name in os.listdir(bait.folder))):
            os.chown(path, NOBODY, NOBODY)
        os.setgroups([]); os.setresgid(*[NOBODY] * 3); os.setresuid(*[NOBODY] * 3)
    if "docker" in wanted:
        weak_kernel.no_namespaces()
    if "old" in wanted:
        weak_kernel.no_landlock()
    ctypes.CDLL(None).prctl(4, 1 if "open" in wanted else 0, 0, 0, 0)
    if "open" in wanted:
        from workers.parsers.confinement import Layers
        sandbox_probe.confine = lambda limits: Layers(False, 0, False)
    child = os.fork()
    if child == 0:
        sandbox_probe.try_all(json.dumps(asdict(bait)))
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os._exit(0)
""".replace("NOBODY", str(NOBODY))

SETTINGS = {
    "plain user": ("plain",),
    "plain user in Docker": ("plain", "docker"),
    "plain user in Docker on an old kernel": ("plain", "docker", "old"),
    **({"root": ()} if os.geteuid() == 0 else {}),
}
# What the kernel itself refuses a plain user, or a machine may refuse everybody.
NOT_EVERYWHERE = {"mount", "make a namespace", "trace the worker", "use io_uring"}


def tried(*wanted):
    ran = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", TRIED, str(ROOT), *wanted],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_act_is_possible(setting):
    found = tried(*SETTINGS[setting])

    assert found["possible"] == []
    # The filter alone is enough; what else stands is up to the machine.
    assert found["layers"].startswith("seccomp, ")
    assert "docker" not in SETTINGS[setting] or "no own network namespace" in found["layers"]
    assert "old" not in SETTINGS[setting] or "no Landlock" in found["layers"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_act_is_possible_without_the_sandbox(setting):
    found = tried("open", *SETTINGS[setting])

    assert set(sandbox_probe._ACTS) - set(found["possible"]) <= NOT_EVERYWHERE


# ---- what a worker makes of it

WEAK = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.support import weak_kernel
from workers.sandbox import Sandbox
from shared.errors import SandboxUnavailable
weak_kernel.no_sandbox()
html = b"<html><body><p>iyi belge</p></body></html>"
strict = Sandbox(required=True)
for _ in range(2):
    try:
        strict.parse(html)
    except SandboxUnavailable as refused:
        print(refused)
print(strict.parse(b"plain text").text)
print(Sandbox(required=False).parse(html).text)
"""


def test_a_machine_that_is_too_weak_parses_where_it_is_not_required():
    ran = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", WEAK, str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )

    *told, first, second, text, html = ran.stdout.splitlines()
    assert first == second
    assert first.startswith("The parsers' sandbox is too weak on this machine: code in a document")
    assert "open a network connection, connect to a local socket, read a file" in first
    assert first.endswith("or set AILYDIAN_SANDBOX=prefer to parse documents all the same.")
    assert (text, html) == ("plain text", "iyi belge")
    assert sum("sandbox.too_weak" in line for line in [*told, *ran.stderr.splitlines()]) == 1


def test_a_sandbox_that_holds_parses_where_it_is_required():
    with closing(Sandbox(required=True)) as sandbox:
        assert sandbox.parse(HTML).text == "iyi belge"


def test_a_child_is_replaced_by_one_for_a_kind_that_had_not_come_yet():
    with closing(Sandbox()) as sandbox:
        for _ in range(2):
            assert sandbox.parse(HTML).text == "iyi belge"
            assert sandbox.parse(hostile_files.pdf()).text == "merhaba pdf"
            assert sandbox.parse(hostile_files.docx_of()).text == "merhaba dünya"
        assert sandbox.parse(rb"{\rtf1 tekrar}").text == "tekrar"
        assert sandbox.parse(HTML).text == "iyi belge"


def test_a_sandbox_that_cannot_be_measured_blames_no_document(monkeypatch):
    monkeypatch.setattr(sandbox_level, "_known", sandbox_level._Known())
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with closing(Sandbox(required=True)) as sandbox, pytest.raises(SandboxUnavailable) as told:
        sandbox.parse(HTML)
    assert not told.value.counted
    assert str(told.value) == "The parsers' sandbox could not be measured: CalledProcessError."
    level = {"possible": ["do anything"], "layers": "it could not be measured", "required": False}
    assert sandbox_level.figures() == {"sandbox": level}


@pytest.mark.parametrize("required", [True, False])
def test_a_disk_without_room_for_a_folder_blames_no_document(monkeypatch, tmp_path, required):
    monkeypatch.setattr(sandbox_level, "_known", sandbox_level._Known())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))

    with closing(Sandbox(required=required)) as sandbox:
        with pytest.raises(SandboxUnavailable, match=r"^(No parser process can|The parsers' s)"):
            sandbox.parse(HTML)
        monkeypatch.undo()
        assert sandbox.parse(HTML).text == "iyi belge"


@pytest.mark.parametrize(
    ("variables", "required"),
    [
        ({}, False),
        ({"AILYDIAN_SANDBOX": "require"}, True),
        ({"DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x"}, True),
        ({"DATABASE_URL": "postgresql://x/y", "AILYDIAN_SANDBOX": "prefer"}, False),
    ],
)
def test_it_is_required_with_real_servers(variables, required):
    assert settings.read(variables).sandbox_required is required


# ---- nothing is left to be loaded

LOADED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from workers import parsers
from workers.parsers.preload import preload
preload(sys.argv[3:])
late, parsing = [], False
def note(event, arguments):
    if parsing and event in ("import", "open", "os.listdir", "os.scandir", "ctypes.dlopen"):
        late.append(f"{event} {arguments[0]}")
sys.addaudithook(note)
for path in sorted(os.listdir(sys.argv[2])):
    with open(os.path.join(sys.argv[2], path), "rb") as file:
        data = file.read()
    parsing = True
    try:
        parsers.parse(data, name=path)
    except Exception:
        pass
    parsing = False
# Those of Windows are looked for and not found.
json.dump([one for one in late if "mbcs" not in one and "oem" not in one], sys.stdout)
"""


@pytest.mark.parametrize("kind", ["archive", "eml", "html", "pdf", "rtf"])
def test_no_document_has_anything_loaded_after_the_start(kind, tmp_path):
    documents = {
        **{path.name: path.read_bytes() for path in (ROOT / "producers/demo/documents").iterdir()},
        "nested.eml": hostile_files.nested_mail(20),
        "locked.pdf": hostile_files.pdf_with_empty_password(),
        "odd.docx": hostile_files.docx_of(),
        "broken.docx": hostile_files.docx_of(hostile_files.body()[:-9]),
        "letter.rtf": rb"{\rtf1\ansi\ansicpg1254 \'fe\'f0 \u305?}",
        "guess.html": b"<html><body>" + "très déjà naïve garçon ".encode("latin-1") * 40,
    }
    for codec in ("cp1254", "iso-8859-9", "euc_jp", "shift_jis", "gb18030", "koi8-r", "utf-16"):
        text = f'<html><meta charset="{codec}"><body>a \xfe\xf0'.encode("latin-1")
        documents[f"{codec}.html"] = text
        mail = f"From: a@b.c\nSubject: =?{codec}?q?=E7=FE?=\nMIME-Version: 1.0\n"
        mail += f"Content-Type: text/plain; charset={codec}\n\n"
        documents[f"{codec}.eml"] = mail.encode() + b"abc \xe7\xfe\n"
    chosen = {name: data for name, data in documents.items() if sniff(data, name).name == kind}
    assert chosen
    for name, data in chosen.items():
        (tmp_path / name).write_bytes(data)

    ran = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", LOADED, str(ROOT), str(tmp_path), kind],
        capture_output=True,
        check=True,
    )

    assert json.loads(ran.stdout) == []
