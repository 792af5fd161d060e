"""Mail: the headers a reader sees, the best body, and the names of what is attached."""

from email import message_from_bytes, policy
from email.message import EmailMessage, Message

from shared.errors import DocumentRefused
from workers.parsers.encoding import decode
from workers.parsers.markup import html_to_markdown
from workers.parsers.model import KindName, Parsed, ParserLimits, Structure

_HEADERS = ("From", "To", "Cc", "Subject", "Date")
# The header parser of the standard library is quadratic; people's headers are short.
_HEADER_CHARS_MAX = 4_000
_ATTACHMENTS_MAX = 200


def parse_mail(data: bytes, limits: ParserLimits) -> Parsed:
    """An eml as text; Markdown when only an HTML body exists.

    Raises:
        DocumentRefused: `corrupt_eml`, `nesting_limit`, `output_limit`.
    """
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    subject = _header(message, "Subject")
    head = [f"{name}: {text}" for name in _HEADERS if (text := _header(message, name))]
    body, structure = _body(message, limits)
    blocks = ["\n".join(head), body.strip()]
    if names := _attachments(message):
        blocks.append("\n".join(["Attachments:", *(f"- {name}" for name in names)]))
    text = "\n\n".join(block for block in blocks if block)
    return Parsed(text, KindName("eml"), structure, title=subject or None)


def _header(message: Message, name: str) -> str:
    raw = next((v for k, v in message.raw_items() if k.lower() == name.lower()), "")
    if len(str(raw)) > _HEADER_CHARS_MAX:
        return _repaired(str(raw)[:_HEADER_CHARS_MAX])
    try:
        return _repaired(str(message[name] or ""))
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):
        # The header parser fails in many ways on forged headers; the raw form still reads.
        return _repaired(str(raw))


def _repaired(text: str) -> str:
    """Raw 8-bit headers arrive as surrogates; they are UTF-8 or a code page, as any text."""
    line = " ".join(text.split())
    if line.isascii():
        return line
    return decode(line.encode("utf-8", "surrogateescape"), lossy=True)[0]


def _body(message: EmailMessage, limits: ParserLimits) -> tuple[str, Structure]:
    part = message.get_body(("plain", "html"))
    if part is None:
        return "", "plain"
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return "", "plain"
    if len(content) > limits.text_bytes_max:
        raise DocumentRefused("output_limit", "Its body is longer than allowed.")
    text = decode(content, declared=part.get_content_charset(), lossy=True)[0]
    if part.get_content_subtype() == "html":
        return html_to_markdown(text, limits).text(), "markdown"
    return text, "plain"


def _attachments(message: EmailMessage) -> list[str]:
    names = []
    for part in message.walk():
        name = part.get_filename()
        if name:
            names.append(_repaired(name)[:300])
        if len(names) == _ATTACHMENTS_MAX:
            break
    return names
