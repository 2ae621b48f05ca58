"""A bot whose behaviour is the path of its URL; it prints what it sees and does, one JSON object a line.

/echo       sends each media message back as it came
/listen     says nothing
/record     says nothing, and at the end shows the file that it has written what it heard to (`recorded`)
/barge-in   10 s of tone at once with marks inside and behind it, `clear` 2 s later, then one second of media and a mark
/close      closes with 1000 when it has heard one second
/key        echoes like /echo, and closes with 1000 when a key is pressed
/break      drops the connection without a close frame when it has heard one second
/trouble    every kind of message that a bot should not send, then echoes like /echo
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

RATE_HZ = 8000


def tone(seconds: float, amplitude: int = 12000) -> bytes:
    """440 and 1,000 Hz, never silent for longer than a few samples: a fade or a gap in it shows."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    samples = amplitude * (0.6 * np.sin(2 * np.pi * 440 * t) + 0.4 * np.sin(2 * np.pi * 1000 * t + 1))
    return samples.astype("<i2").tobytes()


class Conversation:
    """One stream and what this bot makes of it."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        assert socket.request is not None
        self.path = socket.request.path.partition("?")[0]
        self.stream = ""
        self.heard_ms = 0
        self.heard = bytearray()
        self.later: set[asyncio.Task[None]] = set()

    def show(self, event: str, **fields: Any) -> None:
        """One line for the test; ``at`` is in the clock of captured packets."""
        print(json.dumps({"event": event, "at": time.time(), "stream": self.stream, **fields}), flush=True)

    async def send(self, event: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"event": event, "stream_sid": self.stream, **fields}))

    async def say(self, pcm: bytes, chunk_ms: int = 100) -> None:
        size = 2 * RATE_HZ * chunk_ms // 1000
        for start in range(0, len(pcm), size):
            await self.send("media", media={"payload": base64.b64encode(pcm[start : start + size]).decode()})

    async def run(self) -> None:
        request = self.socket.request
        assert request is not None
        self.show("connected_to_us", path=request.path, authorization=request.headers.get("Authorization"))
        try:
            async for text in self.socket:
                await self.heed(json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            if self.path == "/record":
                file = Path(f"{self.stream}.pcm").absolute()
                file.write_bytes(self.heard)
                self.show("recorded", file=str(file))
            self.show("closed", code=self.socket.close_code)
            for task in self.later:
                task.cancel()

    async def heed(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "media":
            self.heard_ms += len(base64.b64decode(message["media"]["payload"])) * 1000 // (2 * RATE_HZ)
            await self.heed_media(message)
            return
        if event == "start":
            self.stream = message["stream_sid"]
        self.show(event, **{key: value for key, value in message.items() if key != "event"})
        if self.path == "/barge-in":
            await self.heed_barge_in(message)
        if self.path == "/key" and event == "dtmf":
            await self.socket.close(1000)
        if self.path == "/trouble" and event == "start":
            await self.make_trouble()

    async def heed_media(self, message: dict[str, Any]) -> None:
        media = message["media"]
        if media["chunk"] == "1":
            more = {key: media[key] for key in ("chunk", "timestamp")}
            more["sequence_number"] = message["sequence_number"]
            self.show("first_media", bytes=len(base64.b64decode(media["payload"])), **more)
        if self.path == "/record":
            self.heard += base64.b64decode(media["payload"])
        elif self.path in ("/echo", "/key", "/trouble"):
            await self.send("media", media={"payload": media["payload"]})
        elif self.path == "/close" and self.heard_ms >= 1000:
            await self.socket.close(1000)
        elif self.path == "/break" and self.heard_ms >= 1000:
            self.socket.transport.abort()

    async def heed_barge_in(self, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            await self.say(tone(1.0))
            await self.send("mark", mark={"name": "one-second"})
            await self.say(tone(9.0))
            await self.send("mark", mark={"name": "sentence-end"})
            self.later.add(asyncio.create_task(self.interrupt()))
        elif message["event"] == "mark" and message["mark"]["name"] == "second-sentence":
            await self.socket.close(1000)

    async def interrupt(self) -> None:
        await asyncio.sleep(2.0)
        self.show("clearing")
        await self.send("clear")
        await asyncio.sleep(1.0)
        self.show("speaking_again")
        await self.say(tone(1.0))
        await self.send("mark", mark={"name": "second-sentence"})

    async def make_trouble(self) -> None:
        for text in (
            "not json",
            "[]",
            '"media"',
            "{}",
            '{"event": 7}',
            '{"event": "nobody-knows-this"}',
            '{"event": "media"}',
            '{"event": "media", "media": {}}',
            '{"event": "media", "media": {"payload": 5}}',
            '{"event": "media", "media": {"payload": "@@@@"}}',
            '{"event": "media", "media": {"payload": "QUJD"}}',
            '{"event": "media", "stream_sid": "another", "media": {"payload": ""}}',
            '{"event": "mark"}',
            '{"event": "mark", "mark": {"name": null}}',
            '{"event": "start"}',
            '{"event": "dtmf", "dtmf": {"digit": "1"}}',
            "{" * 2000,
        ):
            await self.socket.send(text)
        await self.socket.send(b"\x00\xff\xfe binary")
        await self.send("clear")
        await self.send("mark", mark={"name": "after-trouble"})


async def main() -> None:
    async def converse(socket: ServerConnection) -> None:
        await Conversation(socket).run()

    async with serve(converse, "127.0.0.1", 0, compression=None) as server:
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
