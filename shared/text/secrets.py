"""Patterns of secrets: keys and tokens in their issuers' formats, and names of passwords.

Each issuer is written once, in two forms. Logs leave out whatever may be a secret of theirs, cut
ones and those of tomorrow's length too; moderation blocks a text for one, so it asks for the whole
form. Every pattern is linear on hostile text: it begins with a literal, its parts are bounded.

Source: the forms are those the issuers document, PEM is RFC 7468, the JWT is RFC 7519.
"""

from typing import Final, NamedTuple


class Issuer(NamedTuple):
    """An issuer's secrets.

    Attributes:
        gates: Of which one stands in the lowered text that holds such a secret.
        suspected: The form that logs leave out.
        issued: The whole form, which a text is blocked for; empty where that is not known.
    """

    gates: tuple[str, ...]
    suspected: str
    issued: str = ""


ISSUERS: Final = (
    Issuer(  # OpenAI, Anthropic, Stripe
        ("sk-", "sk_", "rk-", "rk_", "pk-", "pk_"),
        r"(?:sk|rk|pk)[-_][A-Za-z0-9_-]{12,}",
        r"sk-(?:[A-Za-z0-9]{20,200}|(?:proj|svcacct|ant)-[A-Za-z0-9_-]{20,200})"
        r"|(?:sk|rk)_live_[A-Za-z0-9]{16,100}",
    ),
    Issuer(("aly_",), r"aly_[A-Za-z0-9]{1,16}_[A-Za-z0-9_]{8,}"),  # our own
    Issuer(  # AWS
        ("akia", "asia", "aroa", "aida", "agpa"),
        r"(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{12,}",
        r"(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    ),
    Issuer(  # GitHub
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?:gh[pousr]_|github_pat_)[A-Za-z0-9_.-]{16,}",
        r"gh[pousr]_[A-Za-z0-9]{36,80}|github_pat_[A-Za-z0-9_]{22,100}",
    ),
    Issuer(("glpat-",), r"glpat-[A-Za-z0-9_.-]{16,}", r"glpat-[A-Za-z0-9_-]{20,40}"),  # GitLab
    Issuer(
        ("xox",), r"xox[abeprs]-[A-Za-z0-9_.-]{16,}", r"xox[abprs]-[A-Za-z0-9-]{24,100}"
    ),  # Slack
    Issuer(  # Google
        ("aiza", "ya29."),
        r"(?:AIza|ya29\.)[A-Za-z0-9_.-]{16,}",
        r"AIza[A-Za-z0-9_-]{35}",
    ),
    Issuer(("npm_",), r"npm_[A-Za-z0-9_.-]{16,}", r"npm_[A-Za-z0-9]{36}"),
    Issuer(("hf_",), r"hf_[A-Za-z0-9_.-]{16,}", r"hf_[A-Za-z0-9]{30,50}"),  # Hugging Face
    Issuer(  # SendGrid
        ("sg.",),
        r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}",
        r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}",
    ),
    Issuer(  # Telegram
        (":aa",), r"\d{8,10}:AA[A-Za-z0-9_-]{30,}", r"\d{8,10}:AA[A-Za-z0-9_-]{33}"
    ),
    Issuer(  # JSON Web Tokens
        ("eyj",),
        r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*",
        r"eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}",
    ),
)
SUSPECTED: Final = "|".join(issuer.suspected for issuer in ISSUERS)
ISSUED: Final = "|".join(issuer.issued for issuer in ISSUERS if issuer.issued)
GATES: Final = tuple(gate for issuer in ISSUERS for gate in issuer.gates)

PEM_BLOCK: Final = r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)"
# The rest of a block whose beginning was cut off.
PEM_TAIL: Final = r"\A(?:(?!-----BEGIN ).)*?-----END [A-Z0-9 ]{1,40}-----"
PRIVATE_KEY: Final = (
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----\s{1,4}(?:[A-Za-z0-9+/=:,-]{1,80}\s{1,4}){0,4}"
    r"[A-Za-z0-9+/=]{40}"
)

PASSWORDS: Final = "password|passwd|parola|şifre|sifre|secret"
# Names whose values are secrets, in a text and as a key; lowered.
NAMES: Final = (
    rf"{PASSWORDS}|passphrase|passcode|(?<![a-z])pwd"
    r"|(?:access|refresh|auth|api|session|bearer)[_-]?tokens"
    r"|(?<!tik)token(?!s|iz|is|[_-]?(?:count|limit|max|min|type|budget|usage|per))"
    r"|(?:api|private|access|signing|secret|encryption|master|account|shared)[_-]?key"
    r"|authorization|(?<![a-z])cookie|credential|connection[_-]?string|(?<![a-z])dsn(?![a-z])"
)
# What a person calls one, before saying it.
SAID_NAMES: Final = rf"(?:{PASSWORDS}|parolam|şifrem|sifrem|api[_ -]?key|access[_ -]?token)"
