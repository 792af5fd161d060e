"""The providers' budget: one for all workers, kept in a real Valkey, with a test's own time."""

import itertools
import threading

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import ProviderRateLimited
from shared.models.rate_limits import Heard, ProviderBucket, bucket_key

TPM, RPM = 1_000_000, 3_000
START_MS = 1_800_000_000_000.0


@pytest.fixture
def connect(redis_url):
    clients = []

    def opened():
        clients.append(Redis.from_url(redis_url))
        return clients[-1]

    yield opened
    for client in clients:
        client.close()


def bucket(redis, *, tpm=TPM, rpm=RPM, **options):
    key = bucket_key("ailydian", "sk-secret", "text-embedding-3-small")
    return ProviderBucket(redis, key, tokens_per_minute=tpm, requests_per_minute=rpm, **options)


@pytest.fixture
def away(redis_url, tmp_path):
    """A client of a Valkey that is not there until the test links its socket."""
    with Redis.from_url(redis_url) as real:
        there = real.connection_pool.connection_kwargs
    retry = Retry(NoBackoff(), 0)
    client = Redis(unix_socket_path=str(tmp_path / "s"), db=there["db"], retry=retry)
    client.come_back = lambda: (tmp_path / "s").symlink_to(there["path"])
    yield client
    client.close()


def sent_by_workers(connect, *, workers, tokens, until_ms, **limits):
    """When each of several workers, each as fast as it may, would send: (ms, tokens)."""
    sent, lock = [], threading.Lock()

    def work():
        own, now = bucket(connect(), **limits), START_MS
        while now < START_MS + until_ms:
            try:
                now += own.acquire(tokens, now_ms=now) * 1000
            except ProviderRateLimited as error:
                now += error.retry_after_s * 1000
                continue
            with lock:
                sent.append((now - START_MS, tokens))

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(sent)


def most_within(sent, window_ms):
    """The largest sum of tokens, and count of requests, in any window of that length."""
    tokens = requests = end = held = 0
    for start, (at_ms, cost) in enumerate(sent):
        while end < len(sent) and sent[end][0] < at_ms + window_ms:
            held += sent[end][1]
            end += 1
        tokens, requests = max(tokens, held), max(requests, end - start)
        held -= cost
    return tokens, requests


def test_workers_together_send_the_tokens_of_the_limit_and_no_more(connect):
    sent = sent_by_workers(connect, workers=4, tokens=5_000, until_ms=180_000)

    in_all = sum(cost for at_ms, cost in sent if at_ms < 180_000)
    assert in_all == pytest.approx(3 * TPM, rel=0.02)
    assert most_within(sent, 60_000)[0] <= TPM * 1.02


def test_workers_together_send_the_requests_of_the_limit_and_no_more(connect):
    sent = sent_by_workers(connect, workers=4, tokens=10, until_ms=90_000, rpm=600)

    in_all = sum(1 for at_ms, _ in sent if at_ms < 90_000)
    assert in_all == pytest.approx(900, rel=0.02)
    assert most_within(sent, 60_000)[1] <= 600 * 1.02


def test_many_workers_above_the_longest_wait_still_fill_the_budget(connect):
    sent = sent_by_workers(connect, workers=4, tokens=300_000, until_ms=900_000)

    in_all = sum(cost for at_ms, cost in sent if at_ms < 900_000)
    assert in_all == pytest.approx(15 * TPM, rel=0.02)


def test_an_idle_bucket_lets_the_first_request_through_at_once(connect):
    assert bucket(connect()).acquire(300_000, now_ms=START_MS) == 0


def test_a_wait_beyond_twenty_seconds_is_refused_and_reserves_nothing(connect):
    limited = bucket(connect(), tpm=60_000)
    limited.acquire(40_000, now_ms=START_MS)

    with pytest.raises(ProviderRateLimited) as refused:
        limited.acquire(1_000, now_ms=START_MS)

    assert refused.value.retry_after_s == pytest.approx(39.5)
    assert limited.acquire(1_000, now_ms=START_MS + 39_500) == 0


def test_reservations_keep_the_order_in_which_they_were_made(connect):
    first, second = bucket(connect()), bucket(connect())

    waits = [each.acquire(50_000, now_ms=START_MS) for each in (first, second, first, second)]

    assert waits == pytest.approx([0, 2.5, 5.5, 8.5])


def test_a_retry_after_stops_every_worker(connect):
    told, other = bucket(connect()), bucket(connect())

    told.learn(Heard(block_s=12.0), now_ms=START_MS)

    assert other.acquire(1, now_ms=START_MS) == pytest.approx(12.0)


@pytest.mark.parametrize("block_s", [1e12, float("inf")])
def test_a_huge_retry_after_stops_for_a_quarter_of_an_hour_at_most(connect, block_s):
    limited = bucket(connect())

    limited.learn(Heard(block_s=block_s), now_ms=START_MS)

    with pytest.raises(ProviderRateLimited) as refused:
        limited.acquire(1, now_ms=START_MS)
    assert refused.value.retry_after_s == pytest.approx(900)


def test_a_lower_limit_of_the_provider_slows_all_workers_and_a_higher_one_speeds_none(connect):
    told, other = bucket(connect()), bucket(connect())

    told.learn(Heard(limit_tokens=100_000), now_ms=START_MS)
    slow = [other.acquire(10_000, now_ms=START_MS + 60_000) for _ in range(2)]
    told.learn(Heard(limit_tokens=9e9), now_ms=START_MS + 120_000)
    restored = [other.acquire(10_000, now_ms=START_MS + 180_000) for _ in range(2)]

    assert slow == pytest.approx([0, 5.5])
    assert restored == pytest.approx([0, 0.1])


def test_a_lying_limit_never_stops_the_work_for_good(connect):
    limited = bucket(connect())

    for limit in (0.0, -5.0, 1.0):
        limited.learn(Heard(limit_tokens=limit, limit_requests=limit), now_ms=START_MS)
    limited.acquire(1_000, now_ms=START_MS + 60_000)

    assert limited.acquire(1_000, now_ms=START_MS + 60_000) == pytest.approx(5.5)


def test_an_empty_bucket_of_the_provider_is_waited_for(connect):
    told, other = bucket(connect()), bucket(connect())

    told.learn(Heard(left_tokens=10_000), tokens=50_000, now_ms=START_MS)

    assert other.acquire(50_000, now_ms=START_MS) == pytest.approx(2.4)


def test_redis_own_clock_counts_where_no_time_is_given(connect):
    limited = bucket(connect())

    waits = [limited.acquire(100_000) for _ in range(2)]

    assert waits[0] == 0
    assert 5 < waits[1] <= 5.5


def test_without_redis_a_process_keeps_to_its_share(away):
    limited = bucket(away, share=0.25, clock=itertools.count().__next__)

    waits = [limited.acquire(50_000, now_ms=START_MS) for _ in range(2)]

    assert waits == pytest.approx([0, 11.5])


def test_redis_is_asked_again_some_seconds_after_it_failed(away):
    now_s = 0.0
    limited = bucket(away, clock=lambda: now_s)
    limited.acquire(1, now_ms=START_MS)
    limited.learn(Heard(block_s=1.0), now_ms=START_MS)
    away.come_back()

    limited.acquire(50_000, now_ms=START_MS)
    keys_at_once = away.keys("*")
    now_s = 6.0
    limited.acquire(50_000, now_ms=START_MS)

    assert keys_at_once == []
    assert len(away.keys("ailydian:limits:*")) == 1


def test_the_key_in_redis_does_not_show_the_api_key(connect):
    limited = bucket(connect())
    limited.acquire(1)

    (key,) = connect().keys("*")

    assert b"secret" not in key
    assert key != bucket_key("ailydian", "sk-other", "text-embedding-3-small").encode()
    assert 0 < connect().pttl(key) <= 3_700_000
