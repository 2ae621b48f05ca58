"""The decorator of tests/cases.py: nothing that fails may be lost in it."""

from __future__ import annotations

import inspect

import pytest

from tests.cases import cases


def test_every_case_runs_and_the_one_that_fails_is_named() -> None:
    ran = []

    @cases("value", [1, 2, 3], ids=["one", "two", "three"])
    def check(value: int) -> None:
        ran.append(value)
        assert value != 2

    with pytest.raises(AssertionError) as raised:
        check()
    assert ran == [1, 2, 3] and raised.value.__notes__ == ["in the case: two"]


def test_of_several_that_fail_none_is_lost() -> None:
    @cases(("a", "b"), [(1, 1), (1, 2), (2, 1)], ids=lambda value: f"<{value}>")
    def check(a: int, b: int) -> None:
        assert a == b

    with pytest.raises(ExceptionGroup) as raised:
        check()
    assert [error.__notes__ for error in raised.value.exceptions] == [
        ["in the case: <1>, <2>"],
        ["in the case: <2>, <1>"],
    ]


def test_stacked_ones_are_all_pairs() -> None:
    ran = []

    @cases("b", [3, 4])
    @cases("a", [1, 2])
    def check(clock: object, a: int, b: int) -> None:
        ran.append((a, b))

    assert list(inspect.signature(check).parameters) == ["clock"], "what is no case is a fixture"
    check(clock=None)
    assert ran == [(1, 3), (2, 3), (1, 4), (2, 4)]


@cases("value", [1, 2])
def test_it_is_one_test_to_pytest_with_its_fixtures(request: pytest.FixtureRequest, value: int) -> None:
    assert request.node.name == "test_it_is_one_test_to_pytest_with_its_fixtures"
