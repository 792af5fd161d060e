"""Makers of documents that attack their reader. Nothing hostile lies in the repository."""

import io
import struct
import zipfile
import zlib
from hashlib import md5

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "word/document.xml"


def body(text="merhaba dünya"):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="{WORD}"><w:body>'
        f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>"
    ).encode()


def relations(*extra):
    return (
        f'<Relationships xmlns="{RELATIONS}"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
        f'Target="{MAIN}"/>' + "".join(extra) + "</Relationships>"
    ).encode()


def docx_of(document=None, extra=()):
    """A minimal docx; `extra` adds (name, bytes) entries, equal names included."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("_rels/.rels", relations())
        archive.writestr(MAIN, document or body())
        for name, content in extra:
            archive.writestr(name, content)
    return packed.getvalue()


def zip_of(entries):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return packed.getvalue()


def docx_bomb(part=MAIN, size=30_000_000):
    blank = b" " * size
    if part == MAIN:
        return docx_of(body().replace(b"<w:p>", blank + b"<w:p>", 1))
    return docx_of(extra=[(part, blank)])


def patched_entry(archive, name, field, value):
    """Overwrite one 4-byte field of an entry in its local header and in the directory."""
    data = bytearray(archive)
    local_at, central_at = {"crc": (14, 16), "size": (22, 24)}[field]
    needle = name.encode()
    for magic, field_at, name_at in (
        (b"PK\x03\x04", local_at, 30),
        (b"PK\x01\x02", central_at, 46),
    ):
        at = data.find(magic)
        while at >= 0:
            if data[at + name_at : at + name_at + len(needle)] == needle:
                data[at + field_at : at + field_at + 4] = struct.pack("<I", value)
            at = data.find(magic, at + 4)
    return bytes(data)


def overlapping_entries(count=200):
    """Many directory entries that all inflate the same bytes, as in the 42 kB zip bomb."""
    content = zlib.compress(b"a" * 100_000, 9, wbits=-15)
    crc = zlib.crc32(b"a" * 100_000)
    local = struct.pack(
        "<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(content), 100_000, 5, 0
    )
    data = local + b"a.xml" + content
    directory = b"".join(
        struct.pack(
            "<4sHHHHHHIIIHHHHHII",
            *(b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(content), 100_000),
            *(8, 0, 0, 0, 0, 0, 0),
        )
        + f"a{n:03}.xml".encode()
        for n in range(count)
    )
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(data), 0)
    return data + directory + end


def encrypted_flagged():
    data = bytearray(docx_of())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(magic)
        while start >= 0:
            data[start + at] |= 1
            start = data.find(magic, start + 4)
    return bytes(data)


def ole(*names):
    directory = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in names)
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504 + directory


def with_doctype(doctype, entity="&e;", encoding="utf-8"):
    document = body(entity).decode().replace("?>", "?>" + doctype, 1)
    return docx_of(document.replace("UTF-8", encoding).encode(encoding))


LAUGHS = "<!DOCTYPE d [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9)
) + "]>"  # fmt: skip


def entity_attacks(address):
    """Every way XML can look something up or blow up, by name; `address` is a listening URL."""
    return {
        "laughs": LAUGHS,
        "quadratic": f"<!DOCTYPE d [<!ENTITY e '{'x' * 50_000}'>]>",
        "file": "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>",
        "http": f"<!DOCTYPE d [<!ENTITY e SYSTEM '{address}'>]>",
        "parameter": f"<!DOCTYPE d [<!ENTITY % p SYSTEM '{address}'> %p;]>",
        "external": f"<!DOCTYPE d SYSTEM '{address}'>",
    }


# ---- pdf


def pdf_of(*objects, trailer="", root=1):
    """A pdf of numbered objects with a right cross-reference table."""
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        piece = content if isinstance(content, bytes) else content.encode()
        out += f"{number} 0 obj\n".encode() + piece + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<</Size {len(objects) + 1}/Root {root} 0 R {trailer}>>\n".encode()
    return bytes(out + f"startxref\n{start}\n%%EOF\n".encode())


def stream(content, extra=""):
    return f"<</Length {len(content)} {extra}>>\nstream\n".encode() + content + b"\nendstream"


PAGE = (
    "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R/Resources"
    "<</Font<</F 5 0 R>>>>>>"
)
FONT = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
CATALOG = "<</Type/Catalog/Pages 2 0 R>>"
PAGES = "<</Type/Pages/Kids[3 0 R]/Count 1>>"


def show(text):
    return b"BT /F 12 Tf 20 200 Td (" + text + b") Tj ET"


def pdf(*, catalog=CATALOG, pages=PAGES, page=PAGE, content=None, more=(), trailer=""):
    """One page that says `merhaba pdf`, with any of its objects replaced."""
    inner = stream(show(b"merhaba pdf")) if content is None else content
    return pdf_of(catalog, pages, page, inner, FONT, *more, trailer=trailer)


def pdf_many_pages(count):
    pages = f"<</Type/Pages/Kids[{'3 0 R ' * count}]/Count {count}>>"
    return pdf(pages=pages)


def pdf_double_flate(size):
    once = zlib.compress(b" " * size + show(b"merhaba"), 9)
    return pdf(content=stream(zlib.compress(once, 9), "/Filter[/FlateDecode/FlateDecode]"))


def pdf_that_draws_itself():
    drawing = "<</XObject<</X 6 0 R>>>>"
    form = stream(b"/X Do", f"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources{drawing}")
    page = PAGE.replace("/Font", "/XObject<</X 6 0 R>>/Font")
    return pdf(page=page, content=stream(b"/X Do"), more=[form])


def pdf_with_password():
    lock = f"<</Filter/Standard/V 1/R 2/O<{'41' * 32}>/U<{'42' * 32}>/P -4>>"
    return pdf(more=[lock], trailer="/Encrypt 6 0 R/ID[<00><00>]")


def pdf_with_empty_password():
    """Encrypted (RC4, 40 bits) with a user password of no characters: any reader opens it."""
    pad = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    owner = b"A" * 32
    key = md5(pad + owner + struct.pack("<i", -4) + b"\0", usedforsecurity=False).digest()[:5]
    page_key = md5(key + b"\4\0\0\0\0", usedforsecurity=False).digest()[:10]
    user, content = rc4(key, pad), rc4(page_key, show(b"merhaba pdf"))
    lock = f"<</Filter/Standard/V 1/R 2/O<{owner.hex()}>/U<{user.hex()}>/P -4>>"
    return pdf(content=stream(content), more=[lock], trailer="/Encrypt 6 0 R/ID[<00><00>]")


def rc4(key, data):
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


# ---- text


def nested(tag, depth):
    return b"<html><body>" + f"<{tag}>".encode() * depth + b"merhaba" + b"</body></html>"


def nested_rtf(depth):
    return b"{\\rtf1 " + b"{" * depth + b"merhaba" + b"}" * depth + b"}"


def nested_mail(depth):
    lines = ["From: a@example.org", "Subject: iç içe", "MIME-Version: 1.0"]
    for level in range(depth):
        lines += [f'Content-Type: multipart/mixed; boundary="b{level}"', "", f"--b{level}"]
    return "\n".join([*lines, "Content-Type: text/plain", "", "merhaba"]).encode()
