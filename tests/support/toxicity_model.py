"""Writes the model of English abuse without its pickle: `python -m tests.support.toxicity_model`.

Needs alt-profanity-check, which is installed for tests alone.
"""

from importlib import metadata
from pathlib import Path

import numpy as np
from profanity_check import profanity_check

from workers.judgement import toxicity

PLACE = Path(toxicity.__file__).with_suffix(".npz")
PACKAGE = "alt-profanity-check"


def arrays():
    """The numbers of the library's model, by their names in the file."""
    rows = sorted(profanity_check.vectorizer.vocabulary_.items(), key=lambda one: one[1])
    folds = profanity_check.model.calibrated_classifiers_
    return {
        "words": np.frombuffer("\n".join(word for word, _ in rows).encode(), dtype=np.uint8),
        "rarity": profanity_check.vectorizer.idf_,
        "weights": np.stack([fold.estimator.coef_[0] for fold in folds], axis=1),
        "intercepts": np.array([fold.estimator.intercept_[0] for fold in folds]),
        "slopes": np.array([fold.calibrators[0].a_ for fold in folds]),
        "offsets": np.array([fold.calibrators[0].b_ for fold in folds]),
    }


def licence():
    """The licence of the package, as its wheel holds it."""
    found = [one for one in metadata.files(PACKAGE) or [] if one.name.startswith("LICENSE")]
    return found[0].read_text()


if __name__ == "__main__":
    np.savez_compressed(PLACE, **arrays())
    said = f"toxicity.npz holds the numbers of the model of {PACKAGE} {metadata.version(PACKAGE)}."
    PLACE.with_suffix(".txt").write_text(f"{said}\n\n{licence()}")
