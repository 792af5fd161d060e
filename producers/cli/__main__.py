"""`python -m producers.cli` is `ailydian`: how commands start one another."""

from producers.cli import main

main(prog_name="ailydian")
