"""A request that is sent again after a cut is done once; by command, any number of them."""

from tests.acceptance.faults import http_retries

REQUESTS = 200


def test_requests_cut_before_and_after_commit_are_done_once(pool, database_url, redis_url):
    with http_retries.cut_off(database_url, redis_url, seed=7) as (api, wire, key):
        out = http_retries.send(api, wire, key, requests=REQUESTS, seed=7)
    out.jobs = http_retries.jobs()

    assert out.right, out
    assert out.commits_lost >= REQUESTS / 50, "the wire did not break"
    assert out.hung_up > 0
