from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import globalLogPublisher

from tests.server.kit import Everything


@pytest.fixture
def everything() -> Iterator[Everything]:
    """All that is logged during the test."""
    found = Everything()
    globalLogPublisher.addObserver(found)
    yield found
    globalLogPublisher.removeObserver(found)
