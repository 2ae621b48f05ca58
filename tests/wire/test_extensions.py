"""What only agentstream says, to bots that asked for it."""

from __future__ import annotations

import json

from agentstream.wire.exotel import ExotelSession
from agentstream.wire.messages import StreamStart

SID = "3357459ca698d8c765bac10b0ec418bl"
CALL = "b0c8aea60aceb0007fc5a1bb75c218bl"


def test_messages_and_fields_of_ours_count_like_all_others() -> None:
    session = ExotelSession(StreamStart(SID, CALL, "tenant", "1", "2"))
    session.start()
    extension = json.loads(session.extension("speech_started", {"timestamp": 1240, "level": -21.4}))
    assert extension == {
        "event": "speech_started",
        "sequence_number": "2",
        "stream_sid": SID,
        "speech_started": {"timestamp": "1240", "level": "-21.4"},
    }
    assert json.loads(session.mark("m", {"played": False, "played_ms": 5}))["mark"] == {
        "name": "m",
        "played": False,
        "played_ms": "5",
    }
    stop = json.loads(session.stop("callended", {"played_ms": 7}))
    assert stop["sequence_number"] == "4" and stop["stop"]["played_ms"] == "7"
    assert list(stop["stop"]) == ["call_sid", "account_sid", "reason", "played_ms"]
