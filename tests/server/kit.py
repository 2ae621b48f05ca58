"""The flows that the tests of this folder call, and how they look at sound."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.logger import LogEvent, eventAsText

from agentstream.audio import g711
from agentstream.testing.phone import Phone, speech
from agentstream.testing.server import ServerUnderTest
from agentstream.testing.sip_peer import authorization

URL = "ws://127.0.0.1:5001/media?sample-rate=8000"
TICK_S = 0.02

DONE, SORRY = speech(200, seed=101), speech(200, seed=102)
"""What the flow BRANCHES plays behind each outcome, as mu-law."""


def pcm(ulaw: bytes) -> bytes:
    """16-bit little-endian samples of mu-law bytes."""
    return g711.ULAW_TO_PCM[np.frombuffer(ulaw, np.uint8)].astype("<i2").tobytes()


def samples(ulaw: bytes) -> np.ndarray:
    """The same as an array."""
    return g711.ULAW_TO_PCM[np.frombuffer(ulaw, np.uint8)]


def bot_flow(**options: Any) -> dict[str, Any]:
    """One step: the bot."""
    return {"start": "bot", "step": {"bot": {"applet": "voicebot", "url": URL, **options}}}


def branching_server(**options: Any) -> ServerUnderTest:
    """A bot, and a sound of its own behind each outcome."""
    steps = {
        "bot": {"applet": "voicebot", "url": URL, "next": "goodbye", "on": {"failed": "sorry"}, **options},
        "goodbye": {"applet": "play", "file": "done.wav"},
        "sorry": {"applet": "play", "file": "sorry.wav"},
    }
    sounds = {"done.wav": samples(DONE), "sorry.wav": samples(SORRY)}
    return ServerUnderTest({"start": "bot", "step": steps}, sounds=sounds)


def without_lead(pcm_bytes: bytes) -> bytes:
    """What a bot heard, from the first sample that is not silence."""
    found = np.flatnonzero(np.frombuffer(pcm_bytes, "<i2"))
    return pcm_bytes[2 * int(found[0]) :] if len(found) else b""


def register(
    one: ServerUnderTest,
    phone: Phone,
    password: str = "very-secret",
    expires: int = 600,
    *,
    user: str = "alice",
    headers: str = "",
) -> int:
    """The status of a REGISTER with these credentials.

    :param headers: more lines of it.
    """
    phone.sip.called = user
    phone.send(phone.sip.request("REGISTER", uri="sip:here", headers=headers))
    one.advance(0.1)
    proof = authorization(phone.replies[-1].headers("www-authenticate"), user, password, "REGISTER", "sip:here")
    lines = f"{headers}Expires: {expires}\r\nAuthorization: {proof}\r\n"
    phone.send(phone.sip.request("REGISTER", uri="sip:here", headers=lines))
    one.advance(0.1)
    return phone.replies[-1].status


class Everything:
    """What is logged, at every level, with tracebacks and every field's repr."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, event: LogEvent) -> None:
        self.text += eventAsText(event) + "\n"
        fields = {name: value for name, value in event.items() if not name.startswith("log_") and name != "timeline"}
        self.text += f"{fields!r}\n"
        if "timeline" in event:
            self.text += f"{event['timeline']!r}\n"
