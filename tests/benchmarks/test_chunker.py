"""The chunker's budget: 10 MB a CPU-second with the fast tokenizer, 3 with tiktoken alone."""

import random
import time
from statistics import median

import pytest

from shared.text import tokens
from workers.domain.documents.chunking import chunk

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1_800)]

TURKISH = (
    "Kuyruğa alınan her iş önce veri tabanına yazılır ve ancak işlem tamamlandığında aktarılır.",
    "Belgenin dili belirlenir, başlıkları korunur, parçaları ayrı ayrı saklanır.",
    "Bir paragraf değiştiğinde yalnızca ona dokunan parçalar yeniden hesaplanır.",
    "Çalışanlardan biri ölürse kira süresi dolar, iş başka birine verilir.",
)
ENGLISH = (
    "Every job is written to the ledger first, and is relayed only after the commit.",
    "The worker reads the document, detects its language and keeps the path of headings.",
    "When one paragraph changes, only the chunks that touch it are computed again.",
    "If a worker dies, its lease lapses, and somebody else is given the job.",
)
CODE = (
    "```python\ndef embed(rows: list[str]) -> list[float]:\n    return [len(r) for r in rows]\n```"
)
TABLE = "| name | unit | value |\n|---|---|---|\n" + "| lease_s | second | 30.0 |\n" * 6
LIST = "- publish inside the transaction\n- işi bir kez yap\n- write the receipt with the effect\n"


def document(rng, size):
    """Mixed Markdown of about `size` characters, no two paragraphs alike."""
    parts, length = [], 0
    while length < size:
        drawn = rng.random()
        if drawn < 0.12:
            part = f"{'#' * rng.randint(1, 4)} {rng.choice(TURKISH)[:40]} {rng.random():.3f}"
        elif drawn < 0.2:
            part = rng.choice((CODE, TABLE, LIST))
        else:
            sentences = rng.choices(rng.choice((TURKISH, ENGLISH)), k=rng.randint(1, 6))
            part = f"{' '.join(sentences)} ({rng.randrange(10**6)})"
        parts.append(part)
        length += len(part)
    return "\n\n".join(parts)


def megabytes_per_cpu_second(count_many):
    rng = random.Random(1)
    documents = [document(rng, rng.choice((3_000, 10_000, 50_000))) for _ in range(240)]
    size_mb = sum(len(text.encode()) for text in documents) / 1e6

    def one_round():
        began = time.process_time()
        for text in documents:
            pieces = chunk(text, tokens_max=512, count_many=count_many, kind="markdown")
            assert max(piece.token_count for piece in pieces) <= 512
        return size_mb / (time.process_time() - began)

    return median(one_round() for _ in range(3))


def test_the_fast_tokenizer_chunks_ten_megabytes_a_cpu_second():
    assert tokens.counter()[0] == "splintr"

    speed = megabytes_per_cpu_second(tokens.count_many)

    print(f"chunker with splintr: {speed:.1f} MB per CPU-second")
    assert speed >= 10


def test_tiktoken_alone_chunks_three_megabytes_a_cpu_second():
    speed = megabytes_per_cpu_second(tokens.tiktoken_counter())

    print(f"chunker with tiktoken: {speed:.1f} MB per CPU-second")
    assert speed >= 3
