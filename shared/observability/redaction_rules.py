r"""The shapes of what may be neither logged nor stored: patterns, checksums, and their order.

Every pattern is linear on hostile text: it begins with a literal, and its parts are bounded or
possessive. IP addresses stay: ours are what an operator looks for, and a client's goes by its
name. Turkish phone numbers are known by their 0 or +90, as ten bare digits are any number.
"""

import re
from collections.abc import Callable
from typing import Final

MASK: Final = "[redacted]"
_IDENTITY_DIGITS: Final = 11
# What cards begin with; times since 1970 in milliseconds or finer begin with 1.
_CARD_FIRST: Final = range(2, 7)

# Names whose values are secrets, in a text and as a key; lowered.
NAMES: Final = (
    r"password|passwd|passphrase|passcode|(?<![a-z])pwd|parola|şifre|sifre|secret"
    r"|(?:access|refresh|auth|api|session|bearer)[_-]?tokens"
    r"|(?<!tik)token(?!s|iz|is|[_-]?(?:count|limit|max|min|type|budget|usage|per))"
    r"|(?:api|private|access|signing|secret|encryption|master|account|shared)[_-]?key"
    r"|authorization|(?<![a-z])cookie|credential|connection[_-]?string|(?<![a-z])dsn(?![a-z])"
)

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
    rf"""(?P<name>(?P<line>(?:proxy-)?authorization|(?:set-)?cookie)|{NAMES})
    (?:s|keys?|value|hash|text|[_-][\w-]{{0,32}})?
    \\{{0,8}}["']?\]?(?:\s{{0,4}}(?:=>|:=|[:=])\s{{0,4}}|(?<=["']),\s{{0,4}})
    (?!(?:none|null|true|false)\b)
    (?P<value>(?(line)(?!\\|[bru]{{0,2}}["'\[({{])[^\r\n"']{{1,4096}}+|(?!)) | {_VALUE})""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL
)
# The rest of a block whose beginning was cut off.
PEM_TAIL: Final = re.compile(r"\A(?:(?!-----BEGIN ).)*?-----END [A-Z0-9 ]{1,40}-----", re.DOTALL)
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
    rf"""{_START}(?:
      (?:sk|rk|pk)[-_][A-Za-z0-9_-]{{12,}}
    | aly_[A-Za-z0-9]{{1,16}}_[A-Za-z0-9_]{{8,}}
    | (?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|xox[abeprs]-|AIza|ya29\.)[A-Za-z0-9_.-]{{16,}}
    | (?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{{12,}}
    | eyJ[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]+)*
    | [Bb][Ee][Aa][Rr][Ee][Rr]\s{{1,8}}(?=[^\s"']{{0,24}}?(?:\d|[^\s"']{{24}}))[^\s"',]{{8,}}
    )""",
    re.VERBOSE,
)
_EMAIL: Final = re.compile(
    r"(?<![\w.%+-])[\w.%+-]++@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,23}(?![\w-])"
)
_PHONE: Final = re.compile(
    rf"""{_START}(?<!\d\.)(?:
      (?:\+90|0090|0)[ .-]?\(?[2-5]\d{{2}}\)?[ .-]?\d{{3}}[ .-]?\d{{2}}[ .-]?\d{{2}}
    | \+[1-9](?:[ .()-]{{0,2}}\d){{8,14}}){_END}""",
    re.VERBOSE,
)
_DIGITS: Final = re.compile(
    rf"{_START}(?<!\d\.)(?:\d{{13,19}}|\d{{4}}([ -])\d{{4}}\1\d{{4}}\1\d{{4}}(?:\1\d{{1,3}})?"
    rf"|3\d{{3}}([ -])\d{{6}}\2\d{{5}}|[1-9]\d{{10}}){_END}(?!\.\d)"
)
_IBAN: Final = re.compile(rf"{_START}([A-Z]{{2}})\d{{2}}(?:[ ]?[A-Z0-9]){{11,30}}")
# How many characters a country's IBAN has.
_IBAN_CHARS: Final = {
    text[:2]: int(text[2:])
    for text in [
        "AD24",
        "AE23",
        "AL28",
        "AT20",
        "AZ28",
        "BA20",
        "BE16",
        "BG22",
        "BH22",
        "BR29",
        "BY28",
        "CH21",
        "CR22",
        "CY28",
        "CZ24",
        "DE22",
        "DK18",
        "DO28",
        "EE20",
        "EG29",
        "ES24",
        "FI18",
        "FO18",
        "FR27",
        "GB22",
        "GE22",
        "GI23",
        "GL18",
        "GR27",
        "GT28",
        "HR21",
        "HU28",
        "IE22",
        "IL23",
        "IQ23",
        "IS26",
        "IT27",
        "JO30",
        "KW30",
        "KZ20",
        "LB28",
        "LC32",
        "LI21",
        "LT20",
        "LU20",
        "LV21",
        "LY25",
        "MC27",
        "MD24",
        "ME22",
        "MK19",
        "MR27",
        "MT31",
        "MU30",
        "NL18",
        "NO15",
        "PK24",
        "PL28",
        "PS29",
        "PT25",
        "QA29",
        "RO24",
        "RS22",
        "SA24",
        "SC31",
        "SE24",
        "SI19",
        "SK24",
        "SM27",
        "ST25",
        "SV28",
        "TL23",
        "TN24",
        "TR26",
        "UA29",
        "VA22",
        "VG24",
        "XK20",
    ]
}

# The digit comes first, which is quickly looked for; what may stand before it is asked afterwards.
_NUMBERS_GATE: Final = re.compile(
    r"\d(?:(?<![A-Za-z0-9.]\d)|(?<=\\[a-z0]\d)|(?<=\\x[0-9a-f]{2}\d)|(?<=\\u[0-9a-f]{4}\d)"
    r"|(?<=%[0-9A-Fa-f]{2}\d))(?:[ ().-]{0,2}\d){9}"
)
_IBAN_GATE: Final = re.compile(r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}")


class Known:
    """Texts that go whatever their shape: this process's own secrets."""

    texts: tuple[str, ...] = ()


def suspicions(text: str) -> frozenset[int]:
    """The numbers of the rules that may find something here."""
    lower = text.lower()
    found = {rule for gate, rule in _GATES if gate in lower}
    if any(map(text.__contains__, Known.texts)):
        found.add(_KNOWN)
    if _NUMBERS_GATE.search(text) or _IBAN_GATE.search(text):
        found.add(_NUMBERS)
    return frozenset(found)


def applied(text: str, rules: frozenset[int]) -> str:
    """The text after these rules, in their order."""
    for rule in sorted(rules):
        if rule == _KNOWN:
            for known in Known.texts:
                text = text.replace(known, MASK)
        elif rule == _NUMBERS:
            text = _IBAN.sub(_checked_iban, text)
            text = _DIGITS.sub(_checked_digits, _PHONE.sub(MASK, text))
        else:
            pattern, by = _RULES[rule]
            text = pattern.sub(by, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    start, end = match.span("value")
    return f"{match.string[match.start() : start]}{MASK}{match.string[end : match.end()]}"


def _checked_digits(match: re.Match[str]) -> str:
    digits = [int(digit) for digit in match[0] if digit.isdigit()]
    if len(digits) == _IDENTITY_DIGITS:
        return MASK if _is_identity_number(digits) else match[0]
    return MASK if digits[0] in _CARD_FIRST and _is_luhn(digits) else match[0]


def _is_luhn(digits: list[int]) -> bool:
    """Source: ISO/IEC 7812-1, annex B: every second digit from the right counts double."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_identity_number(digits: list[int]) -> bool:
    """Source: Turkish law 5490's number: digit 10 from odd and even places, digit 11 their sum."""
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[9] == tenth and digits[10] == sum(digits[:10]) % 10


def _checked_iban(match: re.Match[str]) -> str:
    """Source: ISO 13616: letters count from 10, the country and check digits go last, mod 97."""
    size = _IBAN_CHARS.get(match[1], 0)
    compact = match[0].replace(" ", "")
    if not size or len(compact) < size:
        return match[0]
    number = "".join(str(int(char, 36)) for char in compact[4:size] + compact[:4])
    if int(number) % 97 != 1:
        return match[0]
    # What was taken beyond it, such as a word in capitals, stands as it was.
    end = [at for at, char in enumerate(match[0]) if char != " "][size - 1] + 1
    return MASK + match[0][end:]


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
    (
        ("sk-", "sk_", "rk_", "rk-", "pk_", "pk-", "aly_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_",
         "github_pat_", "glpat-", "hf_", "npm_", "xox", "aiza", "ya29.", "akia", "asia", "aroa",
         "aida", "agpa", "eyj", "bearer"),
        _TOKEN,
        MASK,
    ),
    (("@",), _EMAIL, MASK),
)  # fmt: skip
_RULES: Final = tuple((pattern, by) for _, pattern, by in _GATED)
_GATES: Final = tuple((gate, rule) for rule, (gates, _, _) in enumerate(_GATED) for gate in gates)
_KNOWN, _NUMBERS = -1, len(_RULES)
