"""What the tests of this folder have in common: flows with a bot that listens and one that talks."""

from __future__ import annotations

import base64
from typing import Any

from agentstream.testing.bots import Session

TALKS, LISTENS = "ws://127.0.0.1:5001/talk", "ws://127.0.0.1:5002/listen"


def listening_flow(then: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A bot that listens, and then something that lasts: a bot that talks, unless the test says otherwise."""
    steps = {
        "listen": {"applet": "stream", "url": LISTENS, "next": "then", **options},
        "then": then or {"applet": "voicebot", "url": TALKS},
    }
    return {"start": "listen", "step": steps}


def sound_of(session: Session, track: str | None = None) -> bytes:
    """The audio of a session's media messages of one track, or of those that name none."""
    bodies = [body["media"] for body in session.bodies("media")]
    return b"".join(base64.b64decode(media["payload"]) for media in bodies if media.get("track") == track)
