"""Jobs that keep coming while faults are done."""

import threading
import time
from types import TracebackType

from shared.contracts import Contract
from tests.acceptance.faults.plant import TENANTS, Plant

EVERY_S = 0.2


class Flow:
    """Publishes tasks at a steady rate, in a thread, until it has published enough or is left."""

    def __init__(self, plant: Plant, *, per_s: float, jobs_max: int, seconds: float = 0.02) -> None:
        self._plant = plant
        self._per_s, self._jobs_max, self._seconds = per_s, jobs_max, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow")
        self.published = 0

    @property
    def is_over(self) -> bool:
        """Whether all its jobs are published."""
        return self.published >= self._jobs_max

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self.is_over and not self._stop.wait(EVERY_S):
            wanted = int(min((time.monotonic() - began) * self._per_s, self._jobs_max))
            while self.published < wanted and not self._stop.is_set():
                self._publish(min(wanted - self.published, 500))

    def _publish(self, count: int) -> None:
        tenant = TENANTS[(self.published // 7) % len(TENANTS)]
        jobs: list[Contract] = self._plant.tasks(tenant, count, seconds=self._seconds)
        self._plant.publish(tenant, jobs)
        self.published += count
