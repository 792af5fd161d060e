"""The frame all office files share: parts that point to other parts by relationships."""

import posixpath
import re

from shared.errors import DocumentRefused
from workers.parsers.archive import Archive
from workers.parsers.model import KindName
from workers.parsers.safe_xml import attribute, parse_xml

_KINDS = {b"document": "docx", b"presentation": "pptx", b"workbook": "xlsx"}
_ROOT = re.compile(rb"<(?:[\w.-]{1,40}:)?(document|presentation|workbook)\b")


def kind_of(archive: Archive) -> KindName:
    """Which format an archive holds, by what is inside.

    Raises:
        DocumentRefused: `unsupported_type` for any other archive.
    """
    if archive.part("META-INF/container.xml"):
        return KindName("epub")
    # The main part is parsed once, by its own parser; here its first element's name will do.
    head = archive.part(main_part(archive))[:4096].replace(b"\0", b"")
    if root := _ROOT.search(head):
        return KindName(_KINDS[root[1]])
    if "[Content_Types].xml" in archive.names:
        raise DocumentRefused("corrupt_archive", "It is an office file without its main part.")
    raise DocumentRefused("unsupported_type", "It is an archive, not a document.")


def main_part(archive: Archive) -> str:
    """The name of the part that the package's own relationships call its document, or ""."""
    for kind, target, _ in relations(archive, ""):
        if kind == "officeDocument":
            return target
    return ""


def relations(archive: Archive, part: str) -> list[tuple[str, str, str]]:
    """The relationships of a part inside its package: (kind, name of the target, relationship id).

    Targets outside the package, such as remote templates and pictures, are left out: nothing
    may ever follow them.
    """
    folder, name = posixpath.split(part)
    content = archive.part(posixpath.join(folder, "_rels", f"{name}.rels"))
    if not content:
        return []
    found = []
    for relation in parse_xml(content, "archive"):
        if attribute(relation, "TargetMode") == "External":
            continue
        target = attribute(relation, "Target") or ""
        path = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
        kind = (attribute(relation, "Type") or "").rpartition("/")[2]
        found.append((kind, path, attribute(relation, "Id") or ""))
    return found


def package_title(archive: Archive) -> str | None:
    """The title in the package's properties, if its author gave one."""
    for kind, target, _ in relations(archive, ""):
        if kind == "core-properties" and archive.part(target):
            for element in parse_xml(archive.part(target), "archive").iter("{*}title"):
                return element.text or None
    return None
