"""Text as such: letters, words, sentences, languages, tokens, and the shapes of what is private.

Pure: nothing here asks a database, the network, the clock, a log or the settings.
"""
