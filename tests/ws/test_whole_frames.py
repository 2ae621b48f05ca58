"""Whole text frames do not pass through Autobahn's parser; whoever listens cannot tell."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from agentstream.ws.protocol import CLOSE_TIMEOUT_S, BotProtocol
from tests.ws.network import open_talk

pytestmark = pytest.mark.rfc(6455)


def text(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event)


MESSAGES = st.one_of(
    st.binary(min_size=0, max_size=300).map(
        lambda pcm: text({"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}})
    ),
    st.integers(0, 9).map(lambda number: text({"event": "mark", "mark": {"name": str(number)}})),
    st.just(text({"event": "clear"})),
    st.binary(max_size=130),
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Mostly whole text frames; some are parts, control frames, masked, or say their length in too many bytes."""
    payload = draw(MESSAGES)
    first = draw(st.sampled_from([0x81] * 8 + [0x01, 0x80, 0x00, 0x82, 0x89, 0x8A, 0x88, 0xC1, 0x83]))
    mask = draw(st.sampled_from([0] * 12 + [0x80]))
    size = len(payload)
    if (size < 126 and draw(st.integers(0, 9))) or first & 0x08:
        payload = payload[:125] if first & 0x08 else payload
        head = bytes((first, mask | len(payload)))
    elif draw(st.integers(0, 19)):
        head = bytes((first, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + size.to_bytes(8, "big")
    return head + payload


class ByAutobahn(BotProtocol):
    def _take_text(self) -> bool:
        return False


def met(data: bytes, cuts: list[int], parser: type[BotProtocol]) -> dict[str, Any]:
    """What a stream makes of these bytes when they arrive in these pieces."""
    clock = Clock()
    talk = open_talk(clock)
    talk.ours.protocol.__class__ = parser
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        talk.theirs.out += data[begin:end]
        talk.network.flush()
    connection = talk.connection
    found = {"heard": list(talk.peer.heard), "ends": list(talk.peer.ends), "closed": talk.bot.closed}
    found |= {"pongs": talk.bot.pongs, "state": talk.ours.protocol.state, "counters": connection.counters}
    connection.stop("stopped")
    talk.network.advance(CLOSE_TIMEOUT_S + 0.1)
    assert len(talk.peer.ends) == 1
    assert not clock.getDelayedCalls()
    return found


@settings(max_examples=120)
@given(st.lists(frames() | st.binary(max_size=6), max_size=6), st.data())
def test_both_ways_hear_the_same(parts: list[bytes], draws: st.DataObject) -> None:
    """RFC 6455 section 5.2 to 5.5, whatever arrives together."""
    data = b"".join(parts)
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    assert met(data, cuts, BotProtocol) == met(data, cuts, ByAutobahn)


def test_whole_text_frames_are_told_without_autobahn(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several in one read; the part at its end waits for the rest."""
    talk = open_talk(clock)
    parsed: list[bytes] = []
    process = BotProtocol.processData
    monkeypatch.setattr(BotProtocol, "processData", lambda self: (parsed.append(bytes(self.data)), process(self))[1])
    message = text({"event": "media", "media": {"payload": base64.b64encode(bytes(150)).decode()}})
    frame = b"\x81\x7e" + len(message).to_bytes(2, "big") + message
    talk.theirs.out += frame * 3 + b"\x81\x00" + frame[:100]
    talk.network.flush()
    assert talk.peer.heard == [bytes(150)] * 3
    assert talk.connection.counters.invalid == 1  # an empty message is none
    assert parsed and all(len(data) <= 100 for data in parsed)
    talk.theirs.out += frame[100:] + frame
    talk.network.flush()
    assert talk.peer.heard == [bytes(150)] * 5
    talk.hang_up()
