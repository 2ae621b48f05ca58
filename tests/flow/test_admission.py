"""How many calls there may be, at once and a second, of the node, a trunk and an address."""

from __future__ import annotations

from typing import Any

import pytest

from agentstream.config.access import Access, Trunk
from agentstream.config.media import Media
from agentstream.config.model import Config
from agentstream.flow.admission import SOURCES, Admission


def config(max_calls: int = 100, **access: Any) -> Config:
    return Config(media=Media(max_calls=max_calls), access=Access(**access))


def trunk(name: str = "carrier", **more: Any) -> Trunk:
    return Trunk(name=name, **more)


class Desk:
    """Asks, and begins what is let in."""

    def __init__(self, wanted: Config) -> None:
        self.config = wanted
        self.admission = Admission()
        self.now = 100.0
        self.calls = 0

    def call(self, of: Trunk, source: str = "192.0.2.1") -> str:
        """ "" when it was let in, else status and reason."""
        denial = self.admission.ask(self.config, of, source, self.now)
        if denial is not None:
            return f"{denial.status} {denial.reason} {denial.retry_after_s}"
        self.calls += 1
        self.admission.begin(str(self.calls), of.name, source)
        return ""

    def end(self, number: int) -> None:
        self.admission.end(str(number))


@pytest.mark.rfc(3261)
def test_a_full_node_is_503_and_takes_the_next_when_one_ends():
    desk = Desk(config(max_calls=2))
    assert [desk.call(trunk()) for _ in range(3)] == ["", "", "503 node full 5"]
    desk.end(1)
    desk.end(1)
    assert [desk.call(trunk()) for _ in range(2)] == ["", "503 node full 5"]


def test_some_room_is_kept_for_calls_of_ours():
    desk = Desk(config(max_calls=3, reserved_calls=2))
    assert [desk.call(trunk()) for _ in range(2)] == ["", "503 node full 5"]
    assert Desk(config(max_calls=3, reserved_calls=5)).call(trunk()) == "503 node full 5"


@pytest.mark.rfc(3261)
def test_a_full_trunk_is_486_and_the_other_one_calls_on():
    desk, one, other = Desk(config()), trunk("one", max_calls=2), trunk("other")
    assert [desk.call(one) for _ in range(3)] == ["", "", "486 trunk full 5"]
    assert desk.call(other) == ""
    assert desk.admission.calls_of("one") == 2
    desk.end(2)
    assert [desk.call(one) for _ in range(2)] == ["", "486 trunk full 5"]


def test_a_full_source_is_486():
    desk = Desk(config(source_calls=1))
    assert [desk.call(trunk(), source) for source in ("a", "a", "b")] == ["", "486 source full 5", ""]


@pytest.mark.parametrize(
    ("access", "mine", "reason"),
    [
        ({"calls_per_second": 2.0}, {}, "node rate"),
        ({}, {"calls_per_second": 2.0}, "trunk rate"),
        ({"source_calls_per_second": 2.0}, {}, "source rate"),
    ],
)
def test_a_rate_lets_a_second_s_worth_in_at_once_and_then_goes_on_evenly(access, mine, reason):
    desk, of = Desk(config(**access)), trunk(**mine)
    assert [desk.call(of) for _ in range(3)] == ["", "", f"503 {reason} 1"]
    desk.now += 0.5
    assert [desk.call(of) for _ in range(2)] == ["", f"503 {reason} 1"]
    desk.now += 3600
    assert [desk.call(of) for _ in range(3)] == ["", "", f"503 {reason} 1"]


def test_a_slow_rate_says_when_to_come_again():
    desk, of = Desk(config()), trunk(calls_per_second=0.1)
    assert [desk.call(of) for _ in range(2)] == ["", "503 trunk rate 10"]
    desk.now += 4
    assert desk.call(of) == "503 trunk rate 6"
    desk.now += 6
    assert desk.call(of) == ""


def test_what_is_refused_for_one_rate_is_charged_to_none():
    desk, one, other = Desk(config(calls_per_second=2.0)), trunk("one", calls_per_second=0.1), trunk("other")
    assert [desk.call(one) for _ in range(5)] == ["", *["503 trunk rate 10"] * 4]
    assert desk.call(other) == ""


def test_rates_of_many_sources_cost_a_bounded_memory():
    desk = Desk(config(max_calls=10000, source_calls_per_second=1.0))
    for number in range(2 * SOURCES):
        desk.admission.ask(desk.config, trunk(), str(number), desk.now)
    assert len(desk.admission._sources.buckets) == SOURCES


class TestCallsOfOurs:
    def ask(self, desk: Desk, of: Trunk, leg: str) -> str:
        denial = desk.admission.ask_out(desk.config, of, desk.now)
        if denial is None:
            desk.admission.begin_out(leg, of.name)
        return "" if denial is None else denial.sentence

    def test_they_may_take_what_is_kept_and_take_it_from_nobody(self) -> None:
        desk = Desk(config(max_calls=3, reserved_calls=1))
        assert [desk.call(trunk()) for _ in range(3)] == ["", "", "503 node full 5"]
        assert self.ask(desk, trunk(), "a") == ""
        assert self.ask(desk, trunk(), "b") == "all 3 calls of this node are up"
        desk.end(1)
        assert self.ask(desk, trunk(), "b") == ""
        assert desk.call(trunk()) == "503 node full 5"
        desk.admission.end_out("a")
        desk.admission.end_out("a")
        assert desk.admission.outgoing == 1
        assert desk.call(trunk()) == ""

    def test_a_trunk_counts_both_directions(self) -> None:
        desk, narrow = Desk(config()), trunk(max_calls=2)
        assert desk.call(narrow) == ""
        assert self.ask(desk, narrow, "a") == ""
        assert self.ask(desk, narrow, "b") == "all 2 calls of this trunk are up"
        assert desk.call(narrow) == "486 trunk full 5"
        desk.admission.end_out("a")
        assert desk.admission.calls_of("carrier") == 1

    def test_a_rate_is_of_both_directions(self) -> None:
        desk, slow = Desk(config()), trunk(calls_per_second=1.0)
        assert self.ask(desk, slow, "a") == ""
        assert self.ask(desk, slow, "b") == "more than 1 new calls a second are too many for this trunk"
        desk.now += 1.0
        assert self.ask(desk, slow, "b") == ""
