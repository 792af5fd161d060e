"""The number of processes: within its bounds, quick to grow, slow to shrink, unmoved by noise."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from producers.ledger.scaling import Bounds, Load, Need, next_need, shares

BOUNDS = Bounds(total_max=16, queue_min=1, target_lag_s=5.0, calm_s=30.0, cores=4)
IDLE = Load(ready=0, running=0, oldest_s=0.0, processes=1, threads=4)
LATE = Load(ready=1_000, running=4, oldest_s=60.0, processes=1, threads=4)

loads = st.builds(
    Load,
    ready=st.integers(0, 10_000),
    running=st.integers(0, 100),
    oldest_s=st.floats(0, 10_000),
    processes=st.integers(0, 20),
    threads=st.integers(1, 16),
)
bounds = st.builds(
    Bounds,
    total_max=st.integers(4, 32),
    queue_min=st.integers(0, 2),
    target_lag_s=st.floats(0.1, 60),
    calm_s=st.floats(0.1, 60),
    cores=st.integers(1, 8),
)


def simulate(load_of, seconds, need=None, allowed=BOUNDS, cpu_share=0.5):
    """Decide once a second; what was decided is there a second later. The numbers decided."""
    need, numbers = need or Need(1), []
    for second in range(seconds):
        load = replace(load_of(second), processes=need.processes)
        need = next_need(need, load, allowed, float(second), cpu_share=cpu_share)
        numbers.append(need.processes)
    return numbers


@given(st.lists(loads, min_size=1, max_size=40), bounds, st.floats(0, 1))
def test_a_need_stays_within_its_bounds_whatever_happens(seen, allowed, cpu):
    numbers = simulate(
        lambda second: seen[second],
        len(seen),
        Need(allowed.queue_min),
        allowed,
        cpu,
    )

    assert all(allowed.queue_min <= number <= allowed.total_max for number in numbers)


@given(st.lists(st.integers(0, 32), min_size=1, max_size=8), bounds)
def test_shares_use_what_is_allowed_and_no_more(wanted, allowed):
    needs = {f"queue {n}": Need(max(count, allowed.queue_min)) for n, count in enumerate(wanted)}

    given_to = shares(needs, allowed)

    asked = sum(need.processes for need in needs.values())
    assert sum(given_to.values()) == min(asked, allowed.total_max)
    assert all(given_to[queue] <= need.processes for queue, need in needs.items())


def test_a_late_queue_is_at_its_bound_within_four_lags():
    numbers = simulate(lambda second: LATE, 20)

    assert numbers[0] == 2
    assert numbers[-1] == 16


def test_a_queue_without_a_process_gets_one_for_its_first_job_at_once():
    first = replace(IDLE, ready=1, oldest_s=0.1, processes=0)

    need = next_need(Need(0), first, replace(BOUNDS, queue_min=0), 0.0, cpu_share=1.0)

    assert need.processes == 1


def test_an_idle_queue_goes_down_one_process_each_calm_time():
    numbers = simulate(lambda second: IDLE, 100, Need(4))

    assert numbers[29] == 4
    assert [numbers.index(count) for count in (3, 2, 1)] == [30, 60, 90]
    assert numbers[-1] == 1


def test_an_idle_queue_may_go_down_to_none():
    numbers = simulate(lambda second: IDLE, 100, Need(2), replace(BOUNDS, queue_min=0))

    assert numbers[-1] == 0


@given(st.integers(0, 2**32))
def test_noise_between_calm_and_late_moves_nothing(seed):
    lag_s = [2.6 + (seed >> (second % 32)) % 3 * 0.8 for second in range(120)]

    numbers = simulate(lambda second: replace(LATE, oldest_s=lag_s[second]), 120, Need(3))

    assert set(numbers) == {3}


def test_a_short_burst_within_calm_starts_the_calm_time_anew():
    numbers = simulate(
        lambda second: replace(IDLE, running=12) if second % 20 == 19 else IDLE, 200, Need(4)
    )

    assert set(numbers) == {4}


def test_a_full_machine_gets_no_more_processes_than_it_has_processors():
    numbers = simulate(lambda second: LATE, 120, cpu_share=1.0)

    assert numbers[-1] == 4


def test_growth_waits_for_the_processes_it_has_asked_for():
    need = Need(4, None, 0.0)

    waiting = next_need(need, replace(LATE, processes=2), BOUNDS, 60.0, cpu_share=0.1)

    assert waiting.processes == 4


@given(st.integers(1, 12), st.integers(1, 8))
def test_a_steady_load_settles_at_a_number_that_carries_it(arriving, threads):
    """Work arrives that keeps `arriving` threads busy: the backlog is gone, and stays gone."""
    need, backlog, lags, numbers = Need(1), 0.0, [], []
    for second in range(1_000):
        done = min(backlog + arriving, need.processes * threads)
        backlog += arriving - done
        lag_s = backlog / arriving
        load = Load(int(backlog), int(done), lag_s, need.processes, threads)
        need = next_need(need, load, BOUNDS, float(second), cpu_share=0.5)
        lags.append(lag_s)
        numbers.append(need.processes)

    assert max(lags[-100:]) <= BOUNDS.target_lag_s * 2
    assert max(numbers[-300:]) - min(numbers[-300:]) <= 1


def test_one_overloaded_queue_cannot_take_the_smallest_number_from_another():
    given_to = shares({"busy": Need(16), "quiet": Need(1)}, BOUNDS)

    assert given_to == {"busy": 15, "quiet": 1}


def test_queues_that_need_more_than_there_is_share_it():
    given_to = shares({"first": Need(16), "second": Need(16)}, BOUNDS)

    assert given_to == {"first": 8, "second": 8}
