"""Which generation is collected when: the young in slack, the old one when nobody is up or when it has grown."""

from __future__ import annotations

import attrs
import pytest

from agentstream.media import slack
from agentstream.media.slack import FULL_EVERY_TICKS, GROWN_OBJECTS, SLACK_S, YOUNG_EVERY_TICKS, SlackCollector


@attrs.define
class FakeGc:
    """Counts what is asked of the interpreter."""

    old_objects: int = 1000
    collected: list[int] = attrs.Factory(list)

    def collect(self, generation: int = 2) -> None:
        self.collected.append(generation)

    def get_objects(self, generation: int) -> range:
        assert generation == 2
        return range(self.old_objects)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGc:
    fake = FakeGc()
    monkeypatch.setattr(slack, "gc", fake)
    return fake


def after_ticks(collector: SlackCollector, ticks: int, calls: int, tick_s: float = 0.001) -> None:
    for _ in range(ticks):
        collector.after_tick(tick_s, calls)


def test_the_young_are_collected_twice_a_second_where_a_tick_leaves_time(fake: FakeGc) -> None:
    collector = SlackCollector(lambda: 0.0)
    after_ticks(collector, 4 * YOUNG_EVERY_TICKS, calls=5)
    assert fake.collected == [1] * 4
    after_ticks(collector, 4 * YOUNG_EVERY_TICKS, calls=5, tick_s=SLACK_S)
    assert fake.collected == [1] * 4
    assert collector.pauses.count == 4


def test_everything_is_collected_when_no_call_is_up(fake: FakeGc) -> None:
    collector = SlackCollector(lambda: 0.0)
    after_ticks(collector, FULL_EVERY_TICKS, calls=0)
    assert fake.collected.count(2) == 1


def test_while_calls_are_up_everything_is_collected_only_when_the_old_have_become_many(fake: FakeGc) -> None:
    collector = SlackCollector(lambda: 0.0)
    after_ticks(collector, 3 * FULL_EVERY_TICKS, calls=5)
    assert 2 not in fake.collected
    fake.old_objects = GROWN_OBJECTS + 5000
    after_ticks(collector, FULL_EVERY_TICKS, calls=5)
    assert fake.collected.count(2) == 1
    after_ticks(collector, 3 * FULL_EVERY_TICKS, calls=5)
    assert fake.collected.count(2) == 1
