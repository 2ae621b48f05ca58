"""``agentstream demo``: the main job in one command, on free loopback ports: a server, a bot and a phone, each a
process.

The server and the sample echo bot are started here and end with the command; the phone is this process. Its call goes
through real SIP and RTP sockets, its figures come from its own socket and its own count, and they are held against the
server's.
"""

from __future__ import annotations

import argparse
import base64
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import numpy as np
import orjson
from rich.console import Console

from agentstream.audio import g711
from agentstream.cli.call import show_result
from agentstream.cli.children import Child, Children, News, children
from agentstream.cli.phone import CallResult, Errand, Phone, run_phone
from agentstream.cli.server import HOST, ServerSettings, free_port, start_server, wait_for_server
from agentstream.cli.sound import RATE_HZ, expect_writable, find_in_pieces, load_sample_speech
from agentstream.errors import AgentstreamError
from agentstream.rtp.packet import Packet

USER = "1000"
RECORDING = Path("agentstream-demo.wav")

_WATCHDOG_S = 60
_START_S = 20.0
_TAIL_S = 1.5
_ALIKE = 0.9
_NOTHING: tuple[Any, ...] = (None, "", 0, {})
_LAWS = {"PCMU": g711.PCM_TO_ULAW, "PCMA": g711.PCM_TO_ALAW}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--record", type=Path, default=RECORDING, metavar="OUT.wav", help="the stereo WAV (default ./%(default)s)"
    )
    parser.add_argument("--stay", action="store_true", help="go on serving afterwards, so that a softphone can dial in")
    parser.add_argument("--seconds", type=float, metavar="S", help="with --stay: for so long (default: until Ctrl-C)")


def run(args: argparse.Namespace) -> int:
    """0 when the call did all that it should; 1, with every reason, when it did not."""
    expect_writable(args.record)
    console = Console(stderr=args.json, quiet=args.json, highlight=False, soft_wrap=True)
    show = Show(console)
    with tempfile.TemporaryDirectory(prefix="agentstream-demo-") as folder, children(show.news) as family:
        with watchdog(_WATCHDOG_S):
            demo = Demo(family, show, Path(folder), args.record)
            outcome = demo.run()
        if args.json:
            print(orjson.dumps(outcome.as_json()).decode(), flush=True)
        else:
            outcome.show(console)
        if args.stay:
            stay(family, console, outcome.sip_uri, args.seconds)
    return 1 if outcome.problems else 0


@contextmanager
def watchdog(seconds: int) -> Iterator[None]:
    """Raise AgentstreamError in the block when it takes longer."""

    def bark(number: int, frame: FrameType | None) -> None:
        raise AgentstreamError(f"The demo did not come to its end within {seconds} seconds.")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def stay(family: Children, console: Console, sip_uri: str, seconds: float | None) -> None:
    """Go on serving until Ctrl-C, for so many seconds, or until a child ends by itself."""
    console.print(f"\nThe server goes on: call {sip_uri} from a softphone here; Ctrl-C ends it.")
    until = time.monotonic() + (seconds if seconds is not None else float("inf"))
    try:
        while (left := until - time.monotonic()) > 0:
            family.pump(min(left, 60.0))
            for child in family.all:
                if child.is_over:
                    raise AgentstreamError(child.last_words())
    except KeyboardInterrupt:
        console.print("ending")


@attrs.define
class Show:
    """The timeline on the screen, from three processes, in seconds since the INVITE.

    :ivar start_s: monotonic seconds that are its zero.
    """

    console: Console
    start_s: float = attrs.field(factory=time.monotonic)
    _is_media_shown: bool = False

    def line(self, at_s: float, who: str, what: str, fields: dict[str, Any]) -> None:
        """One line of the timeline."""
        told = "  ".join(
            f"[dim]{name}[/dim] {_short(value)}"
            for name, value in fields.items()
            if name != "stream_sid" and value not in _NOTHING
        )
        colour = {"phone": "cyan", "server": "green", "bot": "magenta"}[who]
        line = f"{at_s - self.start_s:7.3f} s  [{colour}]{who:6}[/{colour}]  {what:20} {told}"
        self.console.print(line, soft_wrap=True)

    def news(self, child: Child, news: News) -> None:
        """What a child tells; of many media messages in a row, the first."""
        if news["kind"] == "timeline":
            self.line(news["at"], "server", news["event"], news["fields"])
        elif news["kind"] == "stream":
            is_media = news["event"] == "media"
            if not (is_media and self._is_media_shown):
                self.line(news["at_ns"] / 1e9, "bot", f"got {news['event']}", {})
            self._is_media_shown = is_media

    def phone(self, kind: str, fields: dict[str, Any]) -> None:
        """What the phone does."""
        self.line(time.monotonic(), "phone", kind.replace("_", " "), fields)


def _short(value: Any) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    text = text if len(text) <= 60 else text[:59] + "…"
    return text.replace("[", r"\[")


@attrs.frozen
class Outcome:
    """What the demo showed.

    :ivar stream_events: names of the messages that the bot got, in order, repetitions in a row once.
    :ivar server_counts: the server's rtp_received and rtp_sent; None where its timeline has none.
    :ivar speech, echo: (delay in ms, likeness from 0 to 1) of the speech in the recording's left and right.
    :ivar bot_to_caller_ms: see :func:`bot_to_caller_ms`.
    :ivar sip_uri: what was called, and can be called for as long as the server is there.
    :ivar problems: why this is not what it should be; none: it is.
    """

    result: CallResult
    stream_events: tuple[str, ...]
    media_messages: int
    server_counts: tuple[int, int] | None
    speech: tuple[float, float]
    echo: tuple[float, float]
    bot_to_caller_ms: tuple[float, ...]
    recording: Path
    sip_uri: str
    problems: tuple[str, ...]

    @property
    def bot_to_caller_p95_ms(self) -> float | None:
        """None where no echoed sound could be told from any other."""
        return round(float(np.percentile(self.bot_to_caller_ms, 95)), 2) if self.bot_to_caller_ms else None

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        received, sent = self.server_counts or (None, None)
        return {
            "calls": int(self.result.status == 200),
            "rtp_sent": self.result.sent,
            "rtp_received": self.result.received,
            "rtp_lost": self.result.lost,
            "server_rtp_received": received,
            "server_rtp_sent": sent,
            "stream_events": list(self.stream_events),
            "media_messages": self.media_messages,
            "bot_to_caller_p95_ms": self.bot_to_caller_p95_ms,
            "bot_to_caller_samples": len(self.bot_to_caller_ms),
            "echo_delay_ms": round(self.echo[0] - self.speech[0], 1),
            "speech_likeness": round(self.speech[1], 3),
            "echo_likeness": round(self.echo[1], 3),
            "recording": str(self.recording),
            "sip_uri": self.sip_uri,
            "problems": list(self.problems),
        }

    def show(self, console: Console) -> None:
        """Print what was measured."""
        console.print()
        show_result(console, self.result)
        if self.server_counts is not None:
            console.print(f"the server   received {self.server_counts[0]} packets, sent {self.server_counts[1]}")
        console.print(f"the bot      {' > '.join(self.stream_events)} ({self.media_messages} media messages)")
        console.print(
            f"the speech   likeness {self.speech[1]:.2f} in the left; its echo {self.echo[1]:.2f} in the right,"
            f" {self.echo[0] - self.speech[0]:.0f} ms later"
        )
        if self.bot_to_caller_p95_ms is not None:
            console.print(
                f"bot to phone p95 {self.bot_to_caller_p95_ms:.1f} ms of {len(self.bot_to_caller_ms)} messages, from"
                " the bot's write to the phone's socket, the wait behind earlier sound included"
            )
        console.print(f"recording    {self.recording} (left: what the phone said, right: what it heard)", markup=False)
        for problem in self.problems:
            console.print(f"[red]problem[/red]      {problem}")


@attrs.define(eq=False)
class Demo:
    """One call through a server and a bot of its own."""

    family: Children
    display: Show
    folder: Path
    recording: Path
    sip_port: int = attrs.field(factory=free_port)
    _heard: list[tuple[int, bytes]] = attrs.field(factory=list)

    def run(self) -> Outcome:
        """Start everything, call, end the call, look at what came of it."""
        bot = self.family.start("bot", ["-m", "agentstream.cli.demo_bot"])
        bot_port = self.family.expect(bot, "listening", _START_S)["port"]
        settings = ServerSettings(self.sip_port, {USER: f"ws://{HOST}:{bot_port}/media"})
        server = start_server(self.family, settings.write(self.folder))
        wait_for_server(self.family, server, self.sip_port)

        speech = load_sample_speech()
        uri = f"sip:{USER}@{HOST}:{self.sip_port}"
        self.display.start_s = time.monotonic()
        phone = Phone.open(uri, Errand(speech, tail_s=_TAIL_S), self.display.phone, self._hear)
        try:
            result = run_phone(phone, self._look_after, tuple(child.fileno() for child in self.family.all))
        finally:
            phone.close()
        counts = self._server_counts(server)
        if phone.line is None:
            raise AgentstreamError(f"The call failed: {result.problem or result.reason}.")
        recording = phone.line.recording
        recording.save(self.recording)
        stereo = recording.stereo()
        said, heard = find_in_pieces(speech, stereo[:, 0]), find_in_pieces(speech, stereo[:, 1])
        events = [news["event"] for news in bot.news if news["kind"] == "stream" and news["event"] != "closed"]
        written = [(news["at_ns"], news["head"]) for news in bot.news if news["kind"] == "written"]
        return judged(
            Outcome(
                result=result,
                stream_events=tuple(name for i, name in enumerate(events) if i == 0 or name != events[i - 1]),
                media_messages=events.count("media"),
                server_counts=counts,
                speech=(1000 * said[0] / RATE_HZ, said[1]),
                echo=(1000 * heard[0] / RATE_HZ, heard[1]),
                bot_to_caller_ms=bot_to_caller_ms(written, self._heard, phone.line.plan.codec),
                recording=self.recording,
                sip_uri=uri,
                problems=(),
            )
        )

    def _hear(self, packet: Packet, at_ns: int) -> None:
        self._heard.append((at_ns, packet.payload))

    def _look_after(self) -> None:
        self.family.pump(0.0)
        for child in self.family.all:
            if child.is_over:
                raise AgentstreamError(child.last_words())

    def _server_counts(self, server: Child) -> tuple[int, int] | None:
        """What the server's timeline says that it received and sent, once the call has ended there."""
        until = time.monotonic() + 3.0
        while (left := until - time.monotonic()) > 0:
            for news in server.news:
                fields = news.get("fields") or {}
                if "rtp_received" in fields and "rtp_sent" in fields:
                    self.family.pump(0.2)  # what the bot and the server still have to say about the end
                    return int(fields["rtp_received"]), int(fields["rtp_sent"])
            self.family.pump(min(left, 0.5))
        return None


def bot_to_caller_ms(written: list[tuple[int, str]], heard: list[tuple[int, bytes]], codec: str) -> tuple[float, ...]:
    """From each write of the bot to the arrival of the packet with its first sample, at the phone's socket;
    milliseconds.

    Messages are known by the first 20 ms of their sound, which the codec gives back unchanged; those whose beginning is
    not the only one of its kind (silence, say) are left out.

    :param written: (monotonic nanoseconds, base64 of PCM16) of each message.
    :param heard: (monotonic nanoseconds, payload) of each packet.
    """
    encoding = _LAWS[codec]
    sound = b"".join(payload for _, payload in heard)
    ends = np.cumsum([len(payload) for _, payload in heard])
    delays = []
    for at_ns, head in written:
        pcm = np.frombuffer(base64.b64decode(head)[:320], "<u2")
        payload = np.take(encoding, pcm).tobytes()
        place = sound.find(payload)
        if len(payload) == 160 and place >= 0 and sound.find(payload, place + 1) < 0:
            packet = int(np.searchsorted(ends, place, side="right"))
            delays.append((heard[packet][0] - at_ns) / 1e6)
    return tuple(delays)


def judged(outcome: Outcome) -> Outcome:
    """The outcome with every reason why it is not what it should be."""
    result = outcome.result
    problems = [f"no whole call: {result.problem}"] if result.problem else []
    if result.lost:
        problems.append(f"{result.lost} packets were lost on the way to the phone")
    if outcome.server_counts is None:
        problems.append("the server's timeline does not say how many packets it received and sent")
    elif outcome.server_counts != (result.sent, result.received):
        received, sent = outcome.server_counts
        problems.append(
            f"the phone sent {result.sent} packets and received {result.received},"
            f" but the server received {received} and sent {sent}"
        )
    events = outcome.stream_events
    if events[:2] != ("connected", "start") or "media" not in events or "stop" not in events:
        problems.append(f"the bot got {', '.join(events) or 'nothing'}: connected, start, media, stop were to come")
    if outcome.speech[1] < _ALIKE:
        problems.append("the speech is not in the recording's left side")
    if outcome.echo[1] < _ALIKE:
        problems.append("the echo of the speech is not in the recording's right side")
    return attrs.evolve(outcome, problems=tuple(problems))
