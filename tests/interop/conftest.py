"""The server as a process with two bots beside it, for calls by real programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peers.house import House, open_house
from tests.interop.peers.programs import SOUNDS, require


@pytest.fixture(scope="session")
def _house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require(SOUNDS)
    with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def house(_house: House) -> Iterator[House]:
    """The house; after each test it stands and its log holds no traceback."""
    _house.server.check()
    yield _house
    _house.server.check()


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three different sentences, 8 kHz mono WAV."""
    require(SOUNDS)
    return {
        "instruct": SOUNDS / "demo-instruct.wav",
        "congrats": SOUNDS / "demo-congrats.wav",
        "menu": SOUNDS / "vm-options.wav",
    }
