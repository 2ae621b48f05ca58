from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.media.kit import World, make_world


@pytest.fixture
def world() -> Iterator[World]:
    """A media plane on a Clock; nothing may be left to do on it in the end."""
    world = make_world()
    yield world
    world.plane.stop()
    assert world.clock.getDelayedCalls() == []
