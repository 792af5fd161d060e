"""Faults of the wires: slow, narrow, cut, silent, one-way, and all of them in turn."""

import random

from tests.acceptance.faults.plant import LINKS, Plant


def be_slow(plant: Plant, _: random.Random) -> None:
    """26: latency with jitter on every wire."""
    for link in plant.links.values():
        link.latency_s, link.jitter_s = plant.seconds(0.1), plant.seconds(0.2)
    plant.give(20)
    plant.pause(plant.seconds(20))
    heal(plant)


def swallow(plant: Plant, rng: random.Random) -> None:
    """27: a black hole: everything goes in, nothing comes out, and nobody says so."""
    link = plant.links[rng.choice(LINKS)]
    link.holds_up = link.holds_down = True
    plant.pause(plant.seconds(40))
    link.heal()


def cut(plant: Plant, rng: random.Random) -> None:
    """28: reset in the middle of a query, one byte at a time, 10 kB a second."""
    for _ in range(4):
        plant.links[rng.choice(LINKS)].reset()
        plant.pause(0.2)
    for link in plant.links.values():
        link.slice_bytes = 1
    plant.give(6)
    plant.pause(plant.seconds(10))
    heal(plant)
    for link in plant.links.values():
        link.bytes_per_s = 10_000
    plant.give(6)
    plant.pause(plant.seconds(10))
    heal(plant)


def go_one_way(plant: Plant, rng: random.Random) -> None:
    """29: one direction is lost; then a wire that comes and goes."""
    link = plant.links[rng.choice(LINKS)]
    link.holds_down = True
    plant.pause(plant.seconds(10))
    link.heal()
    link = plant.links[rng.choice(LINKS)]
    for _ in range(4):
        link.down = True
        link.reset()
        plant.pause(plant.seconds(2))
        link.heal()
        plant.pause(plant.seconds(2))


def clog(plant: Plant, rng: random.Random) -> None:
    """30: every wire is stopped, one by one, and they come back in another order."""
    for name in rng.sample(LINKS, len(LINKS)):
        plant.links[name].holds_up = plant.links[name].holds_down = True
        plant.pause(plant.seconds(4))
    for name in rng.sample(LINKS, len(LINKS)):
        plant.links[name].heal()
        plant.pause(plant.seconds(4))


def heal(plant: Plant) -> None:
    """Make all wires plain again."""
    for link in plant.links.values():
        link.heal()
