r"""Patterns of redacted values, their checksums and their order.

Every pattern is linear on hostile text: it begins with a literal, and its parts are bounded or
possessive. IP addresses stay: operators need ours, and a client's is masked by its name. Patterns
shared with other modules are in `shared.text.identifiers` and `shared.text.secrets`.
"""

import re
from collections.abc import Callable
from typing import Final

from shared.text import identifiers, secrets

MASK: Final = "[redacted]"
_IDENTITY_DIGITS: Final = 11
# What cards begin with; times since 1970 in milliseconds or finer begin with 1.
_CARD_FIRST: Final = range(2, 7)

# Where a token may begin: not inside a word, but right after an escape such as \n or %3D.
_START: Final = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtfvb0])|(?<=\\x[0-9a-f]{2})|(?<=\\u[0-9a-f]{4})"
    r"|(?<=%[0-9A-Fa-f]{2}))"
)
_END: Final = r"(?![A-Za-z0-9])"
_VALUE: Final = r"""(?:[bru]{0,2}"(?:[^"\\]|\\.){0,4096}+" | [bru]{0,2}'(?:[^'\\]|\\.){0,4096}+'
    | \\{1,8}["'](?:(?!\\{1,8}["']).){0,4096}+(?:\\{1,8}["'])?
    | \[redacted\] | [\[({][^\])}]{0,4096}+[\])}]?
    | (?:(?:bearer|basic|digest|token|apikey|negotiate)\s{1,4})?[^\s"']{1,4096}+)"""
_KEYED: Final = re.compile(
    rf"""(?P<name>(?P<line>(?:proxy-)?authorization|(?:set-)?cookie)|{secrets.NAMES})
    (?:s|keys?|value|hash|text|[_-][\w-]{{0,32}})?
    \\{{0,8}}["']?\]?(?:\s{{0,4}}(?:=>|:=|[:=])\s{{0,4}}|(?<=["']),\s{{0,4}})
    (?!(?:none|null|true|false)\b)
    (?P<value>(?(line)(?!\\|[bru]{{0,2}}["'\[({{])[^\r\n"']{{1,4096}}+|(?!)) | {_VALUE})""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_PEM: Final = re.compile(secrets.PEM_BLOCK, re.DOTALL)
PEM_TAIL: Final = re.compile(secrets.PEM_TAIL, re.DOTALL)
_INPUT_VALUE: Final = re.compile(r"(input_value=)[^\n]{0,2000}(, input_type=)")
_DETAIL: Final = re.compile(
    r"((?:DETAIL|CONTEXT|QUERY):  ).*?"
    r"(?=\n(?:HINT:|CONTEXT:|Traceback |  File |[\w.]+(?:Error|Exception|Violation)\b|which led)"
    r"|\n\s*\n|\Z)",
    re.DOTALL,
)
_SQL_LINE: Final = re.compile(r"(LINE \d{1,9}: )[^\n]*(?:\n\s{0,200}\^)?")
_QUOTED: Final = re.compile(
    r"""((?:invalid|malformed|out\ of\ range|not\ convert)[^"'\n]{0,120}[:=]\s{0,2})
    [bru]{0,2}(?:"[^\n]{0,4096}"|'[^\n]{0,4096}')""",
    re.VERBOSE,
)
_OUT_OF_RANGE: Final = re.compile(
    r"""(value )"[^"\n]{1,400}"( is out of range| is not valid| too long)"""
)
_URL_PASSWORD: Final = re.compile(
    r"""(://[^\s:/@"']{0,128}:)(?!\d{1,5}(?:[/?\#\s"',)]|$))
    [^\s"']{1,512}@""",
    re.VERBOSE,
)
_TOKEN: Final = re.compile(
    rf"{_START}(?:{secrets.SUSPECTED}|[Bb][Ee][Aa][Rr][Ee][Rr]\s{{1,8}}"
    rf"(?=[^\s\"']{{0,24}}?(?:\d|[^\s\"']{{24}}))[^\s\"',]{{8,}})"
)
_EMAIL: Final = re.compile(rf"(?<![\w.%+-]){identifiers.EMAIL}")
_PHONE: Final = re.compile(rf"{_START}(?<!\d\.){identifiers.PHONE}{_END}")
_DIGITS: Final = re.compile(
    rf"{_START}(?<!\d\.)(?:{identifiers.CARD}|{identifiers.TURKISH_IDENTITY}){_END}(?!\.\d)"
)
_IBAN_START: Final = re.compile(_START + identifiers.IBAN_START)

# The digit comes first, which is quickly looked for; what may stand before it is asked afterwards.
_NUMBERS_GATE: Final = re.compile(
    r"\d(?:(?<![A-Za-z0-9.]\d)|(?<=\\[a-z0]\d)|(?<=\\x[0-9a-f]{2}\d)|(?<=\\u[0-9a-f]{4}\d)"
    r"|(?<=%[0-9A-Fa-f]{2}\d))(?:[ ().-]{0,2}\d){9}"
)
_IBAN_GATE: Final = re.compile(r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}")


class Known:
    """Texts masked whatever their shape: this process's own secrets."""

    texts: tuple[str, ...] = ()


def suspicions(text: str) -> frozenset[int]:
    """Return the numbers of the rules that may match here."""
    lower = text.lower()
    found = {rule for gate, rule in _GATES if gate in lower}
    if any(map(text.__contains__, Known.texts)):
        found.add(_KNOWN)
    if _NUMBERS_GATE.search(text) or _IBAN_GATE.search(text):
        found.add(_NUMBERS)
    return frozenset(found)


def applied(text: str, rules: frozenset[int]) -> str:
    """Apply these rules to the text, in order."""
    for rule in sorted(rules):
        if rule == _KNOWN:
            for known in Known.texts:
                text = text.replace(known, MASK)
        elif rule == _NUMBERS:
            text = _without_ibans(text)
            text = _DIGITS.sub(_checked_digits, _PHONE.sub(MASK, text))
        else:
            pattern, by = _RULES[rule]
            text = pattern.sub(by, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    start, end = match.span("value")
    return f"{match.string[match.start() : start]}{MASK}{match.string[end : match.end()]}"


def _checked_digits(match: re.Match[str]) -> str:
    digits = identifiers.digits_of(match[0])
    if len(digits) == _IDENTITY_DIGITS:
        return MASK if identifiers.is_turkish_identity(digits) else match[0]
    chars = identifiers.card_chars(match[0], _may_be_card)
    return MASK + match[0][chars:] if chars else match[0]


def _may_be_card(digits: str) -> bool:
    return int(digits[0]) in _CARD_FIRST and identifiers.is_card(digits)


def _without_ibans(text: str) -> str:
    parts, at = [], 0
    for start, end in identifiers.ibans(text, _IBAN_START):
        parts += [text[at:start], MASK]
        at = end
    return "".join([*parts, text[at:]])


_Rule = tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]]
# What must be in the lowered text for a pattern to be tried at all; in the order of trying.
_GATED: Final[tuple[_Rule, ...]] = (
    (("-----begin ",), _PEM, MASK),
    (("input_value=",), _INPUT_VALUE, rf"\1{MASK}\2"),
    (("detail:  ", "context:  ", "query:  "), _DETAIL, rf"\1{MASK}"),
    (("line ",), _SQL_LINE, rf"\1{MASK}"),
    (("invalid", "malformed", "out of range", "not convert"), _QUOTED, rf"\1{MASK}"),
    ((' is out of range', " is not valid", " too long"), _OUT_OF_RANGE, rf"\1{MASK}\2"),
    (("://",), _URL_PASSWORD, rf"\1{MASK}@"),
    (
        ("pass", "pwd", "parola", "ifre", "secret", "token", "key", "authoriz", "cookie",
         "credential", "ion_string", "ion-string", "ionstring", "dsn"),
        _KEYED,
        _without_value,
    ),
    ((*secrets.GATES, "bearer"), _TOKEN, MASK),
    (("@",), _EMAIL, MASK),
)  # fmt: skip
_RULES: Final = tuple((pattern, by) for _, pattern, by in _GATED)
_GATES: Final = tuple((gate, rule) for rule, (gates, _, _) in enumerate(_GATED) for gate in gates)
_KNOWN, _NUMBERS = -1, len(_RULES)
