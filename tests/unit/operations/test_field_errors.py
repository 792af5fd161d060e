"""Errors of fields are told in plain words, never in pydantic's own."""

from datetime import datetime
from typing import Annotated, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared import field_errors
from shared.contracts import CONTRACTS


class Order(BaseModel):
    """One field of each kind."""

    model_config = ConfigDict(extra="forbid", strict=True)

    count: Annotated[int, Field(ge=1, le=9)] = 1
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    name: Annotated[str, Field(min_length=2, max_length=4, pattern=r"^[^\u0000]*$")] = "ab"
    odd: Annotated[str, Field(pattern="^x+$")] = "x"
    kind: Literal["a", "b"] = "a"
    tags: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    paid: bool = False
    at: AwareDatetime | None = None
    extra: dict[str, int] = {}

    @field_validator("odd")
    @classmethod
    def _even(cls, given: str) -> str:
        if len(given) % 2 == 0:
            raise ValueError("the length must be odd.")
        return given


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("count", 10, "must be at most 9"),
        ("count", 0, "must be at least 1"),
        ("count", "1", "must be a whole number"),
        ("share", 1.0, "must be less than 1.0"),
        ("share", 0.0, "must be greater than 0.0"),
        ("share", "x", "must be a number"),
        ("name", "a", "must be at least 2 characters"),
        ("name", "abcde", "must be at most 4 characters"),
        ("name", "a\0b", "must not contain NUL characters"),
        ("name", 1, "must be text"),
        ("odd", "y", "has an invalid form"),
        ("odd", "xx", "the length must be odd"),
        ("kind", "c", "must be 'a' or 'b'"),
        ("tags", [], "must have at least 1 item"),
        ("tags", ["a"] * 3, "must have at most 2 items"),
        ("tags", "a", "must be a list"),
        ("paid", 1, "must be true or false"),
        ("at", datetime(2026, 1, 1), "must have a time zone, as 2026-11-01T12:00:00Z has"),  # noqa: DTZ001
        ("extra", [], "must be an object"),
        ("counts", 1, "unknown field; did you mean 'count'; known fields: at, count, extra, ..."),
    ],
)
def test_each_kind_of_error_has_a_sentence(field, value, why):
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({field: value})
    [found] = caught.value.errors()

    told = field_errors.told(found, Order.model_fields)
    assert told.startswith(why.removesuffix("...")) if why.endswith("...") else told == why


def test_a_long_name_and_many_known_ones_are_cut():
    told = field_errors.nearest("x" * 1_000_000, [f"n{number:03}" for number in range(100)], "ways")

    assert told.startswith("; known ways: n000, ")
    assert told.endswith(", n019, ...")
    assert field_errors.nearest("x", [], "ways") == ""


PYDANTIC = ("Input should", "Value error", "String should", "Field required", "Extra inputs")


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda one: one.actor_name)
def test_no_contract_speaks_pydantics_words(contract):
    wrong = {key: {"a": [None]} for key in contract.model_fields} | {"nobody": 1}

    with pytest.raises(ValidationError) as caught:
        contract.model_validate(wrong)
    for found in caught.value.errors():
        told = field_errors.told(found, contract.model_fields)
        assert not any(word in told for word in PYDANTIC), told
        assert not told.startswith("input should"), (found["type"], told)
