"""lxml with every door shut: no entities, no DTD, no network, no huge trees."""

from lxml import etree  # type: ignore[import-untyped]

from shared.errors import DocumentRefused


def parse_xml(content: bytes, kind: str) -> etree._Element:
    """The root of an XML part that has passed the guard.

    Args:
        content: The bytes of the part.
        kind: The document's kind, for the reason code.

    Raises:
        DocumentRefused: `corrupt_<kind>` if it is not well formed, nests too deeply or is
            missing; `forbidden_xml` if it has a DTD of its own.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise DocumentRefused(f"corrupt_{kind}", "One of its XML parts is broken.") from None
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise DocumentRefused("forbidden_xml", "A part of it declares entities.")
    return root


def local(element: etree._Element) -> str:
    """The name of an element without its namespace; strict and transitional files differ there."""
    return str(element.tag).rpartition("}")[2]


def attribute(element: etree._Element, name: str) -> str | None:
    """An attribute by its local name, whatever its namespace."""
    for key, value in element.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(value)
    return None


def child(element: etree._Element, *path: str) -> etree._Element | None:
    """The first descendant along a path of local names, or None."""
    found: etree._Element | None = element
    for name in path:
        if found is None:
            return None
        found = found.find(f"{{*}}{name}")
    return found
