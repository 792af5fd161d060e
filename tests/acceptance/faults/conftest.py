"""One plant for all the faults of a session: they hit a system that has seen others before."""

from collections.abc import Iterator

import pytest

from tests.acceptance.faults.plant import Plant, built


@pytest.fixture(scope="session")
def standing_plant() -> Iterator[Plant]:
    """Two relays, and two workers of four threads; leases and outages ten times shorter."""
    with built(durable=True) as plant:
        plant.start("relay")
        plant.start("relay")
        plant.start_workers()
        yield plant
        plant.open_pool()


@pytest.fixture
def faulty(standing_plant: Plant) -> Plant:
    """The plant, with this process's pool on it."""
    standing_plant.open_pool()
    return standing_plant
