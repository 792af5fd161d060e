"""Contracts register themselves, under the name that their class gives them."""

from typing import ClassVar

import pytest

from shared import contract
from shared.contracts import CONTRACTS, Contract, contract_named, register


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(contract, "CONTRACTS", dict(CONTRACTS))
    return contract.CONTRACTS


def test_a_class_that_names_its_queue_is_a_job_in_snake_case():
    class ChargeCardTwice(Contract, queue="maintenance"):
        """Charge a card."""

        invoice_id: str

    assert contract_named("charge_card_twice") is ChargeCardTwice
    assert ChargeCardTwice.queue_name == "maintenance"
    assert ChargeCardTwice.model_fields.keys() == {"invoice_id"}


def test_a_name_of_its_own_is_kept():
    class Refund(Contract, queue="audit"):
        """Refund a charge."""

        actor_name: ClassVar[str] = "refund_v2"

    assert contract_named("refund_v2") is Refund


def test_a_base_without_a_queue_is_no_job_and_its_children_are(registry):
    before = set(registry)

    class Hourly(Contract):
        """What contracts share."""

        hour: str

    class CountVisits(Hourly, queue="scoring"):
        """Count."""

    assert set(registry) - before == {"count_visits"}
    assert CountVisits(hour="9").queue_name == "scoring"


def test_a_decorated_class_may_say_everything_itself():
    @register
    class Visit(Contract):
        """A visit."""

        actor_name: ClassVar[str] = "note_visit"
        queue_name: ClassVar[str] = "audit"

    assert contract_named("note_visit") is Visit


def test_an_unknown_queue_is_refused_where_the_contract_is_defined():
    with pytest.raises(AssertionError, match="stray: unknown queue nowhere"):

        class Stray(Contract, queue="nowhere"):
            """Lost."""


def test_two_contracts_of_one_name_are_refused():
    with pytest.raises(AssertionError, match=r"probe: shared\.contracts and .*test_contracts both"):

        class Probe(Contract, queue="audit"):
            """Not the one that is known."""

    assert contract_named("probe").__module__ == "shared.contracts"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("attempts_max", 0, "a whole number from 1 to 1,000,000"),
        ("attempts_max", 2.5, "a whole number from 1 to 1,000,000"),
        ("attempts_max", True, "a whole number from 1 to 1,000,000"),
        ("schema_version", 2**31, "a whole number from 1 to 2,147,483,647"),
        ("time_limit_s", float("nan"), "a number from 0.001 to 604,800"),
        ("time_limit_s", 0, "a number from 0.001 to 604,800"),
        ("time_limit_s", "60", "a number from 0.001 to 604,800"),
        ("backoff_s_max", float("inf"), "a number from 0 to 604,800"),
        ("backoff_s_max", -1, "a number from 0 to 604,800"),
        ("batch_max", -3, "a whole number from 1 to 1,000"),
        ("actor_name", "", "1 to 100 characters"),
        ("actor_name", None, "1 to 100 characters"),
        ("upcasts", [], "a mapping of versions to functions"),
        ("audience", "everyone", "one of anyone, operators, system"),
    ],
)
def test_a_contract_whose_limits_make_no_sense_is_not_registered(registry, name, value, allowed):
    with pytest.raises(ValueError, match=f"^Odd.{name} is ") as refused:
        type(
            "Odd",
            (Contract,),
            {"__module__": __name__, "__annotations__": {name: ClassVar[object]}, name: value},
            queue="audit",
        )

    assert str(refused.value) == f"Odd.{name} is {value!r}, and must be {allowed}"
    assert "odd" not in registry


def test_limits_at_the_end_of_their_range_are_taken():
    class Quick(Contract, queue="audit"):
        """Over at once."""

        time_limit_s: ClassVar[float] = 0.5  # type: ignore[misc]
        attempts_max: ClassVar[int] = 1
        backoff_s_max: ClassVar[float] = 0

    assert contract_named("quick") is Quick
