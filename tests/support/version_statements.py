"""The statements of a version, kept as text: what its processes still send during a migration.

After a release: `python -m tests.support.version_statements 0002`.
"""

import sys
from pathlib import Path

from tests.support import source_code

FOLDER = Path(__file__).parent / "versions"
MARK = "-- statement: "
# What `shared.ledger.outbox` composes: it travels with BEGIN.
COMPOSED = {
    "outbox.receipt": "SELECT ailydian_claim_receipt($1, $2)",
    "outbox.receipts": "SELECT ailydian_claim_receipts($1, $2::bigint[])",
}


def of_version(number: str) -> dict[str, str]:
    """The statements of a version by their names, with numbered placeholders."""
    text = (FOLDER / f"{number}.sql").read_text()
    kept = (part.partition("\n") for part in text.split(MARK)[1:])
    return {name: statement.strip() for name, _, statement in kept}


def write(number: str) -> None:
    """Keep the statements of the query modules as they are now."""
    FOLDER.mkdir(exist_ok=True)
    found = {name: source_code.numbered(statement) for name, statement in source_code.statements()}
    (FOLDER / f"{number}.sql").write_text(
        "\n".join(
            f"{MARK}{name}\n{statement.strip()}\n" for name, statement in (found | COMPOSED).items()
        )
    )


if __name__ == "__main__":
    write(sys.argv[1])
