"""How many connections to Postgres the processes may open, as `ailydian verify` counts them."""

from producers.operations import server_checks
from shared import connections
from shared.settings import Settings

ALIVE = [("relay", 1), ("worker", 8)]


def test_every_process_of_the_http_server_counts():
    one, four = Settings(), Settings(web_processes=4)

    more = server_checks.needed_by(ALIVE, four) - server_checks.needed_by(ALIVE, one)
    more_of_up = server_checks.needed_by_up(four) - server_checks.needed_by_up(one)

    assert more == more_of_up == 3 * connections.WEB
