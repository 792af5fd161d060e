"""`python -m tests.benchmarks.bandit`: regret in a simulated world of five models.

Ours is `workers.domain.models.bandit`; the textbook's is Thompson sampling written down again,
straight from Agrawal and Goyal (2012), on numbers of its own; UCB1 is Auer et al. (2002). The
world is synthetic: what real models earn is not known here.
"""

from collections.abc import Sequence

import numpy as np

from workers.domain.models.bandit import Arm, moved, pulled

WORLD = (0.55, 0.60, 0.65, 0.70, 0.80)  # the chance that an answer of each model is a good one
PULLS = 10_000
SEEDS = range(200)
WORLDS = 3_000  # in which the reference is run, all at once: its mean is exact within 1 %
SHIFT = 1_000  # pulls after which another model of the drifting world is the best


def ours(world: Sequence[float], pulls: int, seed: int) -> float:
    """The regret of our bandit: what was missed, compared with the best model all along."""
    rng = np.random.default_rng(seed)
    arms = [Arm() for _ in world]
    missed = 0.0
    for _ in range(pulls):
        choice = pulled(arms, rng)
        missed += max(world) - world[choice]
        arms[choice] = moved(arms[choice], float(rng.random() < world[choice]))
    return missed


def textbook(world: Sequence[float], pulls: int, seed: int) -> float:
    """The regret of Thompson sampling as it stands in the book: wins and losses of each arm."""
    rng = np.random.default_rng(seed)
    wins, losses = np.zeros(len(world)), np.zeros(len(world))
    missed = 0.0
    for _ in range(pulls):
        drawn = [rng.beta(win + 1, loss + 1) for win, loss in zip(wins, losses, strict=True)]
        best = drawn.index(max(drawn))
        missed += max(world) - world[best]
        if rng.random() < world[best]:
            wins[best] += 1
        else:
            losses[best] += 1
    return missed


def reference(world: Sequence[float], pulls: int, seed: int) -> np.ndarray:
    """The textbook's regret in each of WORLDS equal worlds, with chance of its own."""
    rng = np.random.default_rng(seed)
    chance, each = np.array(world), np.arange(WORLDS)
    wins, losses = np.ones((WORLDS, len(world))), np.ones((WORLDS, len(world)))
    missed = np.zeros(WORLDS)
    for _ in range(pulls):
        best = rng.beta(wins, losses).argmax(axis=1)
        missed += chance.max() - chance[best]
        won = rng.random(WORLDS) < chance[best]
        wins[each, best] += won
        losses[each, best] += ~won
    return missed


def ucb1(world: Sequence[float], pulls: int, seed: int) -> float:
    """The regret of UCB1, which takes the arm with the highest upper bound."""
    rng = np.random.default_rng(seed)
    count, total = np.zeros(len(world)), np.zeros(len(world))
    missed = 0.0
    for turn in range(pulls):
        if turn < len(world):
            best = turn
        else:
            best = int(np.argmax(total / count + np.sqrt(2 * np.log(turn) / count)))
        missed += max(world) - world[best]
        count[best] += 1
        total[best] += rng.random() < world[best]
    return missed


def drifting(pulls: int, seed: int, *, discount: float) -> float:
    """Our regret in a world whose best model changes, with what was learnt fading or not."""
    rng = np.random.default_rng(seed)
    arms = [Arm() for _ in WORLD]
    missed = 0.0
    for turn in range(pulls):
        world = np.roll(WORLD, turn // SHIFT)
        choice = pulled(arms, rng)
        missed += float(world.max() - world[choice])
        arms = [Arm(1 + discount * (it.alpha - 1), 1 + discount * (it.beta - 1)) for it in arms]
        arms[choice] = moved(arms[choice], float(rng.random() < world[choice]))
    return missed


def main() -> None:
    """Print the regrets, the mean over the seeds with its standard error."""
    runs = {
        "ours": [ours(WORLD, PULLS, seed) for seed in SEEDS],
        "textbook, same chance": [textbook(WORLD, PULLS, seed) for seed in SEEDS],
        f"textbook, {WORLDS:,} worlds": reference(WORLD, PULLS, 12_345),
        "UCB1": [ucb1(WORLD, PULLS, seed) for seed in SEEDS[:40]],
    }
    print(f"5 models, {PULLS:,} pulls, {len(SEEDS)} seeds; a synthetic world {WORLD}")
    for name, regrets in runs.items():
        error = np.std(regrets) / np.sqrt(len(regrets))
        print(f"  regret, {name:22} {np.mean(regrets):6.1f} +- {error:.1f}")
    mine, same, exact, _ = (np.mean(regrets) for regrets in runs.values())
    print(f"  ours / textbook on the same chance   {mine / same:.3f} (bar: within 10 %)")
    print(f"  ours / textbook, {WORLDS:,} worlds    {mine / exact:.3f} (bar: within 10 %)")
    for discount in (1.0, 0.995, 0.99):
        regret = np.mean([drifting(PULLS, seed, discount=discount) for seed in range(8)])
        print(f"  regret, drifting world, discount {discount}: {regret:.0f}")


if __name__ == "__main__":
    main()
