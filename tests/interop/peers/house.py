"""One server for many tests: each user that can be called gets the flow that its name says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from tests.interop.peers.programs import SOUNDS
from tests.interop.peers.server import ScriptedBot, Server, bot_flow, echo_bot, scripted_bot, server


@attrs.frozen
class House:
    """A server that routes 1000 to the sample bot and other users to what their names say."""

    server: Server
    bot: ScriptedBot


SCRIPTS = ("echo", "listen", "barge-in", "close", "break", "trouble")

ECHO = 'name = "NAME"\nstart = "test"\n[step.test]\napplet = "echo"\n'

GOODBYE = f"""\
name = "NAME"
start = "say"
[step.say]
applet = "play"
file = "{SOUNDS / "vm-goodbye.wav"}"
next = "end"
[step.end]
applet = "hangup"
"""

CHAINED = f"""\
name = "NAME"
start = "greet"
[step.greet]
applet = "play"
file = "{SOUNDS / "vm-goodbye.wav"}"
next = "talk"
[step.talk]
applet = "voicebot"
url = "URL"
next = "end"
on.failed = "sorry"
[step.sorry]
applet = "play"
file = "{SOUNDS / "demo-nogo.wav"}"
[step.end]
applet = "hangup"
"""


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """Start both bots and the server; what is started is ended."""
    with ExitStack() as stack:
        sample = stack.enter_context(echo_bot(folder))
        bot = stack.enter_context(scripted_bot(folder))
        flows = {
            "sample": bot_flow(f"{sample}/media?sample-rate=8000"),
            "parameters": bot_flow(
                f"{bot.url.replace('ws://', 'ws://key:token@')}/listen?sample-rate=8000&campaign=42"
            ),
            "goodbye": GOODBYE,
            "chained-break": CHAINED.replace("URL", f"{bot.url}/break"),
            "chained-close": CHAINED.replace("URL", f"{bot.url}/close"),
            **{name: bot_flow(f"{bot.url}/{name}?sample-rate=8000") for name in SCRIPTS},
        }
        routes = [("1000", "sample"), *((name, name) for name in flows if name != "sample")]
        # A fixed delay: what is compared byte for byte has no quiet blocks left out.
        fixed = "playout_ms = 60\nplayout_min_ms = 60\nplayout_max_ms = 60"
        yield House(stack.enter_context(server(folder, flows, routes, ports=128, media=fixed)), bot)
