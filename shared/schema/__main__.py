"""Write the chapters, put together, to a file: `python -m shared.schema schema.sql`."""

import sys
from pathlib import Path

from shared import schema

Path(sys.argv[1]).write_text(schema.text())
