"""`python -m producers.cli` is `ailydian`; commands use it to start other commands."""

from producers.cli import main

main(prog_name="ailydian")
