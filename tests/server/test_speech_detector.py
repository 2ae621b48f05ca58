"""``[media] speech_detector``: who says that a caller speaks, in a call."""

from __future__ import annotations

import numpy as np
import pytest

from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.errors import ConfigError
from agentstream.flow import loader
from agentstream.testing.bots import Echo
from agentstream.testing.server import ServerUnderTest
from tests.audio.speech import Pcm, recorded
from tests.audio.voices import background
from tests.media.test_silero import music
from tests.server.kit import bot_flow
from tests.server.test_http import HTTP, metrics

SILERO = {"media": {"speech_detector": "silero"}}


def said(server: ServerUnderTest, sound: Pcm) -> list[str]:
    """What the timeline says of who speaks, behind a second of quiet."""
    server.bot(Echo)
    phone = server.call()
    line = np.concatenate((background(1000), sound, background(1000)))
    phone.say(PCM_TO_ULAW[line.view(np.uint16)].tobytes())
    server.advance(len(line) / 8000 + 1)
    kinds = [event.kind for event in server.timeline if event.kind.startswith("speech")]
    phone.hang_up()
    server.advance(1)
    return kinds


def test_music_is_speech_to_energy_alone_and_not_to_both() -> None:
    sound = np.clip(music(), -32768, 32767).astype(np.int16)
    with ServerUnderTest(bot_flow()) as server:
        assert "speech_started" in said(server, sound)
    pytest.importorskip("onnxruntime")
    with ServerUnderTest(bot_flow(), SILERO) as server:
        assert said(server, sound) == []


def test_speech_is_speech_to_both_and_what_that_costs_is_told() -> None:
    pytest.importorskip("onnxruntime")
    with ServerUnderTest(bot_flow(), {**HTTP, **SILERO}) as server:
        kinds = said(server, recorded("demo-congrats")[:16_000])
        assert kinds[:2] == ["speech_started", "speech_stopped"] and len(kinds) % 2 == 0
        told = metrics(server)
        assert 30 < told["agentstream_speech_windows_total"] < 90
        assert 0 < told["agentstream_speech_cpu_seconds_total"] < 1
        assert told["agentstream_speech_windows_dropped_total"] == 0
        assert told["agentstream_speech_alone_seconds_total"] == 0


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "is_silero_installed", lambda: False)
    with pytest.raises(ConfigError) as raised:
        ServerUnderTest(bot_flow(), SILERO)
    (problem,) = raised.value.problems
    assert problem.path == "media.speech_detector"
    assert problem.sentence == "is \"silero\", which needs onnxruntime: pip install 'agentstream[silero]'"
