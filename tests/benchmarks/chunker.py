"""The chunker: megabytes a CPU-second with the fast tokenizer, and with tiktoken alone."""

import time
from statistics import median

from shared.text import tokens
from tests.benchmarks import corpus, harness
from tests.benchmarks.harness import Figure
from workers.domain.documents import chunking

TOKENS_MAX = 512


def measure(texts: list[str], count_many: chunking.CountMany, rounds: int) -> tuple[float, int]:
    """MB a CPU-second, and how many chunks were over the limit by tiktoken's own count."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    speeds = []
    for _ in range(rounds):
        began = time.process_time()
        chunks = [
            piece
            for text in texts
            for piece in chunking.chunk(
                text, tokens_max=TOKENS_MAX, count_many=count_many, kind="markdown"
            )
        ]
        speeds.append(megabytes / (time.process_time() - began))
    truth = tokens.tiktoken_counter()([piece.content for piece in chunks])
    return median(speeds), sum(count > TOKENS_MAX for count in truth)


def main() -> None:
    """Chunk the made corpus both ways."""
    parser = harness.options(__doc__)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    texts = list(corpus.documents(chosen.documents))
    fast, over_fast = measure(texts, tokens.count_many, chosen.rounds)
    alone, over_alone = measure(texts, tokens.tiktoken_counter(), chosen.rounds)
    figures = [
        Figure(f"with {tokens.counter()[0]}", fast, "MB/CPU-s", 10, gates=True),
        Figure("with tiktoken alone", alone, "MB/CPU-s", 3, gates=True),
        Figure("chunks over 512 tokens", over_fast + over_alone, "", 0, at_most=True, gates=True),
    ]
    harness.report("chunker", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
