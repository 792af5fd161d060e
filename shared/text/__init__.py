"""Text as such: letters, words, sentences, languages, tokens, and the shapes of private data.

Pure: nothing here asks a database, the network, the clock, a log or the settings. Every other
room may import it, so that each idea about text is written down once.
"""

from typing import Literal

Language = Literal["tr", "en"]
