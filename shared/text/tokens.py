"""Exact cl100k_base token counts, offline.

tiktoken is the truth. Its vocabulary is the one inside splintr, accepted only when it has the
SHA-256 that tiktoken itself pins, so no network, cache folder or environment variable takes part.
splintr counts about six times as fast; a process uses it only after it has given tiktoken's very
ids on tricky samples. Those ids are kept here as a digest, which a test compares with tiktoken, so
a start need not load tiktoken (0.23 CPU seconds, 45 MB) to make the check.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from shared.errors import ConfigurationBroken

if TYPE_CHECKING:
    import tiktoken

Counter = Callable[[Sequence[str]], list[int]]

_WORDS: Final = 100_256
VOCABULARY_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# Source: tiktoken_ext.openai_public, cl100k_base. Special tokens are left out on purpose:
# "<|endoftext|>" in a user's document is text.
PATTERN: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
SAMPLES: Final = (
    "",
    "Iğdır'ın ılık şubatında çiğ köfteyi İSTANBUL'da yedik; ÖĞÜTÜLMÜŞ kahve ₺12.345,67 idi.",
    "It's 2026, we'RE here; they'll've seen 1234567890 things… “quoted” — dashes",
    "👩‍👩‍👧‍👦 🇹🇷🇬🇧 👍🏽 e\u0301 Z\u0351\u036b\u0343 \u200b\ufeff \u00a0nbsp\u2028line",
    "  leading\n\n\n\ttabs \t mixed   \r\n\r\n trailing   ",
    " " * 200 + "\n" * 50 + "=" * 300 + "a" * 500,
    "<|endoftext|> <|fim_prefix|>x<|im_start|>user<|think|> <| |>",
    "def f(x: int) -> str:\n    return f'{x!r:>{10}}'  # noqa\n\n#include <stdio.h>\n",
    "| a | b |\n|---|:-:|\n| 1 | https://example.org/a_b?c=d&e=%20 |\n",
    "日本語のテキスト。العربية עברית हिन्दी ไทย 한국어 \U0001f9ff\U0002070e",
)

# The digest of tiktoken's ids for SAMPLES, by `ids_digest`.
SAMPLES_SHA256: Final = "5f95d8a4e27bcd9cb4822fed3bac4be60c5b85437a02e61bfaa7d99444d38ae6"


def count(text: str) -> int:
    """Return how many cl100k_base tokens a text has, special tokens read as plain text.

    Raises:
        UnicodeEncodeError: The text holds a lone surrogate.
    """
    return count_many((text,))[0]


def count_many(texts: Sequence[str]) -> list[int]:
    """Return the token count of each text, in order. Threads may call it at once.

    Raises:
        UnicodeEncodeError: A text holds a lone surrogate.
    """
    return counter()[1](texts)


def ids_digest(encode: Callable[[str], list[int]]) -> str:
    """Return the SHA-256 of the ids that an encoder gives for SAMPLES."""
    return hashlib.sha256(repr([list(encode(text)) for text in SAMPLES]).encode()).hexdigest()


def tiktoken_counter() -> Counter:
    """Load tiktoken and return a counter that asks it alone.

    Raises:
        ConfigurationBroken: The packaged vocabulary is not OpenAI's.
    """
    return tiktoken_counter_of(tiktoken_encoding())


def tiktoken_counter_of(encoding: "tiktoken.Encoding") -> Counter:
    """Return a counter that asks this encoding."""
    encode = encoding.encode_ordinary
    return lambda texts: [len(encode(_whole(text))) for text in texts]


def tiktoken_encoding() -> "tiktoken.Encoding":
    """Build tiktoken's cl100k_base from the vocabulary inside splintr.

    Raises:
        ConfigurationBroken: The packaged vocabulary is not OpenAI's.
    """
    # Here, not above: tiktoken is needed only where splintr's counts cannot be trusted.
    import tiktoken  # noqa: PLC0415

    ranks = vocabulary()
    written = b"".join(b"%b %d\n" % (base64.b64encode(word), n) for word, n in ranks.items())
    if hashlib.sha256(written).hexdigest() != VOCABULARY_SHA256:
        raise ConfigurationBroken("The packaged cl100k_base vocabulary is not OpenAI's.")
    return tiktoken.Encoding(
        "cl100k_base", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
    )


def vocabulary() -> dict[bytes, int]:
    """Return the words that splintr knows as cl100k_base with their ranks, in that order."""
    import splintr  # noqa: PLC0415

    word = splintr.Tokenizer.from_pretrained("cl100k_base").decode_bytes
    return {word([rank]): rank for rank in range(_WORDS)}


def splintr_counter() -> Counter | None:
    """Load splintr and return its counter, or None where it disagrees."""
    import splintr  # noqa: PLC0415

    tokenizer = splintr.Tokenizer.from_pretrained("cl100k_base")
    ordinary, flat = tokenizer.encode_ordinary, tokenizer.encode_flat
    if ids_digest(ordinary) != SAMPLES_SHA256:
        return None

    def count_all(texts: Sequence[str]) -> list[int]:
        # encode_flat spares the Python integers, but obeys special tokens spelled out in the
        # text; all of them begin with these two characters.
        return [len(ordinary(t)) if "<|" in t else len(flat(t)) // 4 for t in texts]

    same = count_all(SAMPLES) == [len(ordinary(text)) for text in SAMPLES]
    return count_all if same else None


@cache
def counter() -> tuple[str, Counter]:
    """Return which library counts in this process, `splintr` or `tiktoken`, and its counter."""
    fast = splintr_counter()
    return ("tiktoken", tiktoken_counter()) if fast is None else ("splintr", fast)


def _whole(text: str) -> str:
    # tiktoken quietly replaces lone surrogates, splintr refuses them: refuse in both.
    text.encode()
    return text
