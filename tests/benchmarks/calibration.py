"""`python -m tests.benchmarks.calibration`: what calibration gains, and what a score costs.

The truth is synthetic: estimates that promise too much, and ratings drawn from what they are worth.
What people's ratings of real answers would teach is not known here.
"""

import time

import numpy as np
from numpy.typing import NDArray

from shared.text.language import detect
from shared.text.sentences import sentences
from workers.domain.judgement import quality
from workers.domain.judgement.calibration import Calibration, calibrated, calibration_error, fitted
from workers.domain.judgement.quality import QualityInput

Floats = NDArray[np.float64]
COUNTS = (10, 50, 200, 1_000, 5_000)
SEEDS = range(20)
FRESH = 4_000  # answers that no curve has seen
ANSWERS = 160
PASSAGES = (1, 3, 5)


def truth(raw: Floats) -> Floats:
    """What an estimate is worth: little below a half, which no logistic curve can say."""
    return np.where(raw < 0.5, 0.3 * raw, 0.5 + 0.4 * raw**2)


def synthetic(count: int, seed: int = 1) -> tuple[Floats, Floats]:
    """Estimates that promise too much, and ratings of 1 to 5 drawn from what is true."""
    rng = np.random.default_rng(seed)
    raw = rng.beta(2, 2, count)
    return raw, rng.binomial(4, truth(raw)) / 4


def true_error(found: Calibration) -> float:
    """How far a curve's promises are from the truth on fresh answers."""
    raw, _ = synthetic(FRESH, seed=99)
    values = np.array([calibrated(each, found.method, found.curve) for each in raw])
    return calibration_error(values, truth(raw))


def answer_ms(passages: int) -> float:
    """CPU milliseconds of one answer's factors, none of its passages seen before; no model."""
    asked = "When was the lighthouse built, and who lights its lamp?"
    said = "The lighthouse was built in 1857. The keeper lights it. Ships steer by it at night."
    given = [
        [_passage(1_000 * passages + n, part) for part in range(passages)] for n in range(ANSWERS)
    ]
    detect(asked)  # its model is read once
    started = time.process_time()
    for chunks in given:
        answer = QualityInput(
            text=said,
            sentences=[one.text for one in sentences(said)],
            question=asked,
            passages=[one.text for chunk in chunks for one in sentences(chunk)],
            is_same_language=detect(asked) == detect(said),
        )
        quality.estimate(answer, dict.fromkeys(quality.pairs(answer), 0.5))
    return (time.process_time() - started) / len(given) * 1_000


def main() -> None:
    """Print the errors, means over the seeds, and the cost."""
    print(f"expected calibration error on a synthetic truth, {len(SEEDS)} seeds")
    for count in COUNTS:
        found = [fitted(*synthetic(count, seed)) for seed in SEEDS]
        methods = "/".join(sorted({one.method for one in found}))
        error = np.mean([true_error(one) for one in found])
        held_out = np.mean([one.error for one in found])
        print(f"  {count:5,} pairs  {error:.3f}  (cross-validated {held_out:.3f})  {methods}")
    print("CPU of an answer's factors, without the model")
    for passages in PASSAGES:
        print(f"  {passages} passages of 9 sentences  {answer_ms(passages):.2f} ms (bar: 0.5 ms)")


def _passage(seed: int, part: int) -> str:
    return " ".join(
        f"The lighthouse of bay {seed}-{part}-{n} was built in 18{n}7 by the harbour master. "
        f"Its keeper climbs {seed + n} steps every evening to light the lamp. "
        f"Ships bound for harbour {part} steer by it at night."
        for n in range(3)
    )


if __name__ == "__main__":
    main()
