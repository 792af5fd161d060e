"""Every fault that is done on purpose, by its number in the list of what must be survived."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.acceptance.faults import on_networks, on_people, on_postgres, on_redis, on_workers
from tests.acceptance.faults.plant import Plant


@dataclass(frozen=True)
class Fault:
    """A fault: done, and over, when `inject` returns."""

    number: int
    inject: Callable[[Plant, random.Random], None]

    @property
    def name(self) -> str:
        """Number and name, for people."""
        return f"{self.number:02}-{self.inject.__name__}"


FAULTS = (
    Fault(1, on_workers.kill_workers),
    Fault(3, on_workers.deploy),
    Fault(4, on_workers.freeze),
    Fault(5, on_workers.run_out_of_memory),
    Fault(7, on_workers.lose_a_thread),
    Fault(8, on_workers.ignore_the_time_limit),
    Fault(9, on_redis.kill_redis),
    Fault(10, on_redis.wipe),
    Fault(11, on_redis.be_down),
    Fault(12, on_redis.be_full),
    Fault(13, on_redis.be_unwilling),
    Fault(14, on_redis.be_restored),
    Fault(15, on_redis.cut_clients),
    Fault(16, on_postgres.restart_at_once),
    Fault(17, on_postgres.kill_a_backend),
    Fault(18, on_postgres.terminate_sessions),
    Fault(19, on_postgres.use_up_slots),
    Fault(20, on_postgres.hold_locks),
    Fault(21, on_postgres.answer_with_errors),
    Fault(22, on_postgres.lose_commits),
    Fault(26, on_networks.be_slow),
    Fault(27, on_networks.swallow),
    Fault(28, on_networks.cut),
    Fault(29, on_networks.go_one_way),
    Fault(30, on_networks.clog),
    Fault(31, on_people.shift_clocks),
    Fault(36, on_redis.fuzz),
    Fault(37, on_redis.deliver_thrice),
    Fault(38, on_redis.reorder),
    Fault(41, on_workers.kill_leaders),
    Fault(42, on_people.flood),
    Fault(43, on_people.replay_under_fire),
    Fault(44, on_workers.run_out_of_files),
    Fault(45, on_workers.starve),
    Fault(50, on_workers.lose_power),
)
# By itself, because it goes through many processes.
POINTS = Fault(2, on_workers.kill_at_points)
