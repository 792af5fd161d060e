"""Secrets: keys and tokens by the form their issuers gave them, passwords by what stands before.

Source: the prefixes are those the issuers document (OpenAI, AWS, GitHub, GitLab, Slack, Stripe,
Google, npm, Hugging Face, SendGrid, Telegram), PEM is RFC 7468, the JWT is RFC 7519.
"""

import re
from collections.abc import Iterator
from typing import Final

ISSUED: Final = 0.95
SAID: Final = 0.7  # somebody called it a password

_ISSUED: Final = re.compile(
    r"(?<![\w-])(?:"
    r"sk-(?:[A-Za-z0-9]{20,200}|(?:proj|svcacct|ant)-[A-Za-z0-9_-]{20,200})"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|gh[pousr]_[A-Za-z0-9]{36,80}|github_pat_[A-Za-z0-9_]{22,100}|glpat-[A-Za-z0-9_-]{20,40}"
    r"|xox[abprs]-[A-Za-z0-9-]{24,100}|(?:sk|rk)_live_[A-Za-z0-9]{16,100}"
    r"|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{30,50}"
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}|\d{8,10}:AA[A-Za-z0-9_-]{33}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}"
    r")"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----\s{1,4}(?:[A-Za-z0-9+/=:,-]{1,80}\s{1,4}){0,4}"
    r"[A-Za-z0-9+/=]{40}"
)
_SIGN: Final = r"[^\s\"'<>${}%()\[\]]"
_SAID: Final = re.compile(
    r"(?i:\b(?:password|passwd|parola|şifre|sifre|parolam|şifrem|sifrem|secret|api[_ -]?key"
    r"|access[_ -]?token)) ?(?:[=:]|(?i:is\b|şu:)) ?[\"']?"
    rf"(?={_SIGN}{{0,40}}\d)(?={_SIGN}{{0,40}}[A-Za-z]){_SIGN}{{8,64}}(?![(\[])"
    r"|\b[a-z][a-z0-9+]{1,15}://[^\s/:@]{1,64}:[^\s/:@<>${}]{6,64}@[\w.-]{3,100}"
)
# What documentation writes where a reader shall put his own.
_EXAMPLE: Final = re.compile(r"(?i)example|x{6}|\.\.\.|your|changeme|(.)\1{7}")


def secrets_in(text: str) -> Iterator[tuple[float, int, int]]:
    """Score, start and end of each secret in a visible text."""
    for score, pattern in ((ISSUED, _ISSUED), (SAID, _SAID)):
        for one in pattern.finditer(text):
            if not _EXAMPLE.search(one[0]):
                yield score, *one.span()
