"""Texts of concurrent threads share requests, and nobody pays for a neighbour."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ProviderUnavailable
from shared.models.providers.batching import (
    INPUTS_MAX,
    PROBES,
    TOKENS_MAX,
    Batcher,
    TextRefused,
    halved,
)
from tests.support.patience import patience


class Sender:
    """A provider whose vectors are the texts' numbers; it answers when the gate is open."""

    def __init__(self):
        self.sent, self.weights = [], []
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        self.in_flight = self.in_flight_max = 0
        self.lock = threading.Lock()
        self.inputs_max = INPUTS_MAX
        self.gate.set()

    def __call__(self, texts, tokens):
        with self.lock:
            self.sent.append(texts)
            self.weights.append(tokens)
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self.entered.release()
        assert self.gate.wait(patience(10))
        with self.lock:
            self.in_flight -= 1
        if "bad" in texts or len(texts) > self.inputs_max:
            raise TextRefused("bad")
        if "down" in texts:
            raise ProviderUnavailable("down")
        return np.array([[float(text)] for text in texts], dtype=np.float32)


@pytest.fixture
def sender():
    return Sender()


def embed(batcher, *texts):
    return batcher.embed(texts, [1] * len(texts))[:, 0].tolist()


def queued(batcher, count):
    """Wait until so many parts are in the queue; threads need a moment to get there."""
    with batcher._changed:
        while len(batcher._queue) < count:
            batcher._changed.wait(0.001)


def test_a_lone_caller_never_waits_for_company(sender):
    batcher = Batcher(sender, window_s=3_600)

    for _ in range(3):
        assert embed(batcher, "1", "2") == [1, 2]

    assert len(sender.sent) == 3


def test_calls_that_arrive_while_a_request_is_under_way_share_the_next_one(sender):
    batcher = Batcher(sender, in_flight_max=1, window_s=3_600)
    sender.gate.clear()
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(embed, batcher, "0")
        assert sender.entered.acquire(timeout=patience(10))
        others = [threads.submit(embed, batcher, str(n), str(n + 10)) for n in range(1, 5)]
        queued(batcher, 4)
        sender.gate.set()

        assert first.result(patience(10)) == [0]
        assert [call.result(patience(10)) for call in others] == [[n, n + 10] for n in range(1, 5)]

    assert len(sender.sent) == 2
    assert sender.weights == [1, 8]


def test_threads_that_come_back_again_and_again_wait_for_each_other(sender):
    batcher = Batcher(sender, window_s=3_600)
    together = threading.Barrier(4)

    def work(number):
        answers = []
        for turn in range(20):
            together.wait(patience(10))
            answers += embed(batcher, str(number + turn))
        return answers

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(work, range(4)))

    assert answers == [[number + turn for turn in range(20)] for number in range(4)]
    assert len(sender.sent) <= 40  # 80 calls; the first round may leave one by one


def test_a_request_leaves_when_the_window_ends_though_others_were_here_just_now(sender):
    batcher = Batcher(sender, window_s=0.02)
    other = threading.Thread(target=embed, args=(batcher, "1"))
    other.start()
    other.join()

    assert embed(batcher, "2") == [2]
    assert sender.sent == [["1"], ["2"]]


def test_no_more_requests_are_under_way_than_allowed(sender):
    batcher = Batcher(sender, in_flight_max=2, window_s=0)
    sender.gate.clear()
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(embed, batcher, str(number)) for number in range(6)]
        assert sender.entered.acquire(timeout=patience(10))
        assert sender.entered.acquire(timeout=patience(10))
        sender.gate.set()

        assert sorted(call.result(patience(10))[0] for call in calls) == list(range(6))

    assert sender.in_flight_max == 2


@pytest.mark.parametrize(("count", "tokens", "requests"), [(INPUTS_MAX + 1, 1, 2), (7, 100_000, 3)])
def test_no_request_is_larger_than_the_provider_takes(sender, count, tokens, requests):
    texts = [str(number) for number in range(count)]

    rows = Batcher(sender).embed(texts, [tokens] * count)

    assert rows[:, 0].tolist() == list(range(count))
    assert len(sender.sent) == requests
    assert max(map(len, sender.sent)) <= INPUTS_MAX
    assert max(sender.weights) <= TOKENS_MAX


@pytest.mark.parametrize(("bad", "survivors"), [("bad", [[1, 2], [5, 6]]), ("down", [])])
def test_a_bad_text_fails_its_own_caller_and_a_failed_request_all_in_it(sender, bad, survivors):
    batcher = Batcher(sender, in_flight_max=1, window_s=3_600)
    sender.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        threads.submit(embed, batcher, "0")
        assert sender.entered.acquire(timeout=patience(10))
        pairs = [("1", "2"), ("3", bad), ("5", "6")]
        calls = []
        for position, pair in enumerate(pairs):
            calls.append(threads.submit(embed, batcher, *pair))
            queued(batcher, position + 1)
        sender.gate.set()

        assert [call.result() for call in calls if not call.exception(patience(10))] == survivors

    assert isinstance(calls[1].exception(), (TextRefused, ProviderUnavailable))
    assert embed(batcher, "7") == [7]


def test_threads_waiting_for_one_that_is_interrupted_are_told():
    class Interrupted(BaseException):
        pass

    sender = Sender()

    def interrupted(texts, tokens):
        sender(texts, tokens)
        if texts != ["0"]:
            raise Interrupted
        return np.zeros((1, 1), dtype=np.float32)

    batcher = Batcher(interrupted, in_flight_max=1, window_s=3_600)
    sender.gate.clear()
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(embed, batcher, "0")]
        assert sender.entered.acquire(timeout=patience(10))
        calls += [threads.submit(embed, batcher, text) for text in "12"]
        queued(batcher, 2)
        sender.gate.set()
        failures = {type(call.exception(patience(10))) for call in calls}

    assert failures in ({type(None), Interrupted, ProviderUnavailable}, {Interrupted, type(None)})


# ---- halving of what is refused


def requests_of(items, is_bad, *, inputs_max=INPUTS_MAX):
    """Halve a refused request. Returns which items were refused, and how many requests it took."""
    sent = 0

    def send(part):
        nonlocal sent
        sent += 1
        if len(part) > inputs_max or any(map(is_bad, part)):
            raise TextRefused(f"{len(part)}")
        return part

    answers = halved(items, send, TextRefused("all"))
    refused = [at for at, answer in enumerate(answers) if isinstance(answer, TextRefused)]
    assert [answers[at] for at in range(len(items)) if at not in refused] == [
        item for at, item in enumerate(items) if at not in refused
    ]
    return refused, sent


@pytest.mark.parametrize("bad", [0, 1, 500, 1_023])
def test_one_bad_text_of_a_thousand_is_found_in_twenty_requests(bad):
    refused, sent = requests_of(list(range(1_024)), lambda item: item == bad)

    assert refused == [bad]
    assert sent <= 20 + 8


@given(st.integers(2, 200), st.sets(st.integers(0, 199)), st.integers(1, 64))
def test_whatever_is_bad_and_however_few_a_server_takes_the_others_pass(count, bad, inputs_max):
    items = list(range(count))
    spread = items[:: -(-count // PROBES)]

    refused, sent = requests_of(items, bad.__contains__, inputs_max=inputs_max)

    if not set(spread) <= bad:  # a server that takes none of these is taken to refuse all
        assert set(refused) == set(items) & bad
    assert sent <= 2 * count + PROBES


def test_a_server_that_refuses_everything_is_not_asked_for_each_text():
    refused, sent = requests_of(list(range(2_048)), lambda item: True)

    assert len(refused) == 2_048
    assert sent <= 11 + 8


def test_the_rows_of_the_other_texts_come_with_the_refusal(sender):
    with pytest.raises(
        TextRefused, match=r"2 of 5 texts were rejected, number 2, 4\. bad"
    ) as raised:
        embed(Batcher(sender), "1", "bad", "3", "bad", "5")

    assert list(raised.value.refused) == [1, 3]
    assert raised.value.rows[[0, 2, 4], 0].tolist() == [1, 3, 5]


def test_a_server_that_takes_fewer_texts_gets_fewer(sender):
    sender.inputs_max = 32

    assert embed(Batcher(sender), *map(str, range(99))) == list(range(99))
    assert embed(Batcher(sender, inputs_max=32), *map(str, range(99))) == list(range(99))
    assert [len(texts) for texts in sender.sent[-4:]] == [32, 32, 32, 3]
