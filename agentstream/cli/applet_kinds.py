"""What ``agentstream applet new`` writes: for each kind an applet that works, and a test that passes, as text.

Both are held to what the project's own applets are held to: ruff, mypy in strict mode, and no import of ours but
agentstream.interfaces, agentstream.audio and, in the test, agentstream.testing. The name stands in short lines only, so
that the formatter has nothing to change; the imports stand as a sorter wants them where agentstream is installed, and
are skipped by it where agentstream is a folder beside them.
"""

from __future__ import annotations

from string import Template

import attrs


@attrs.frozen
class Kind:
    """One thing to start from.

    :ivar does: for the help, without a capital.
    :ivar applet: the drop-in's text; ``$name`` is the applet's name.
    :ivar test: its test's.
    :ivar flow_lines: what a step of it needs in a flow beside ``applet``.
    """

    does: str
    applet: str
    test: str
    flow_lines: tuple[str, ...]


def written(kind: str, name: str) -> tuple[str, str]:
    """The drop-in and its test."""
    chosen = KINDS[kind]
    return Template(chosen.applet).substitute(name=name), Template(chosen.test).substitute(name=name)


_PLAY = '''\
"""Plays a sound to the caller; any key cuts it short."""

# isort: skip_file
from __future__ import annotations

from pathlib import Path

import attrs
from agentstream.interfaces import Applet, ICall, IRun, Outcome
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer


@attrs.frozen
class Options:
    """What a step of a flow may set."""

    file: Path = attrs.field(metadata={"doc": "What to play.", "file": "audio"})


@implementer(IRun)
@attrs.define
class Run:
    """One step of one call; whatever belongs to that call is kept here."""

    call: ICall
    options: Options
    _digit: str = ""
    _playing: Deferred[None] = attrs.field(factory=Deferred)
    _work: Deferred[str] = attrs.field(factory=Deferred)

    def start(self) -> Deferred[str]:
        """Begin; the step is over when this fires with the name of an outcome."""
        self._work = Deferred.fromCoroutine(self._steps())
        return self._work

    async def _steps(self) -> str:
        """What happens, in order. Returns the outcome."""
        self.call.hear_digits(self._pressed)
        self._playing = self.call.play(self.options.file)
        try:
            await self._playing
        except CancelledError:
            if not self._digit:
                raise  # no key did it: the call is ending
            return "skipped"
        return "done"

    def _pressed(self, digit: str, duration_ms: int) -> None:
        self._digit = digit
        self._playing.cancel()

    def stop(self, reason: str) -> None:
        """The call is ending: leave nothing running. This ends _steps where it is."""
        self._work.cancel()


applet = Applet(
    name="$name",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("done", "All of it was played."),
        Outcome("skipped", "The caller pressed a key."),
    ),
)
'''

_VOICEBOT = '''\
"""Beeps, then connects the caller to a bot over a WebSocket."""

# isort: skip_file
from __future__ import annotations

import attrs
from agentstream.audio.tones import beep
from agentstream.interfaces import (
    ICall,
    IRun,
    IStream,
    Outcome,
    StreamSpec,
    VoicebotApplet,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer


@attrs.frozen
class Options:
    """What a step of a flow may set."""

    url: str = attrs.field(metadata={"doc": "The bot.", "url": ("ws", "wss")})
    beep_ms: int = attrs.field(
        default=200,
        metadata={"doc": "How long the beep is.", "unit": "ms", "range": (20, 2000)},
    )


@implementer(IRun)
@attrs.define
class Run:
    """One step of one call; whatever belongs to that call is kept here."""

    call: ICall
    options: Options
    _stream: IStream | None = None
    _opening: Deferred[IStream] | None = None

    def start(self) -> Deferred[str]:
        """Begin; the step is over when this fires with the name of an outcome."""
        sound = beep(self.options.beep_ms, self.call.rate_hz)
        self.call.play(sound).addErrback(Failure.trap, CancelledError)
        self._opening = self.call.open_stream(StreamSpec(self.options.url))
        return self._opening.addCallbacks(self._opened, self._not_opened)

    def _opened(self, stream: IStream) -> Deferred[str]:
        self._stream = stream
        return stream.ended().addCallback(lambda end: "done" if end.clean else "failed")

    def _not_opened(self, failure: Failure) -> str:
        return "done" if isinstance(failure.value, CancelledError) else "failed"

    def stop(self, reason: str) -> None:
        """The call is ending: leave nothing running."""
        if self._stream is not None:
            self._stream.stop(reason)
        elif self._opening is not None:
            self._opening.cancel()


applet = VoicebotApplet(
    name="$name",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("done", "The bot or the caller ended it."),
        Outcome("failed", "The bot was not reached, or lost."),
    ),
)
'''

_PLAIN = '''\
"""Decides by the caller's number which step is next."""

# isort: skip_file
from __future__ import annotations

import attrs
from agentstream.interfaces import Applet, ICall, IRun, Outcome
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer


@attrs.frozen
class Options:
    """What a step of a flow may set."""

    prefix: str = attrs.field(metadata={"doc": "How the numbers meant begin."})


@implementer(IRun)
@attrs.define
class Run:
    """One step of one call; whatever belongs to that call is kept here."""

    call: ICall
    options: Options

    def start(self) -> Deferred[str]:
        """Begin; the step is over when this fires with the name of an outcome."""
        is_meant = self.call.caller.startswith(self.options.prefix)
        return succeed("matched" if is_meant else "other")

    def stop(self, reason: str) -> None:
        """The call is ending: nothing is left running."""


applet = Applet(
    name="$name",
    options=Options,
    run=Run,
    outcomes=(
        Outcome("matched", "The number begins so."),
        Outcome("other", "It does not.", required=True),
    ),
    needs_answer=False,
)
'''

_TEST_HEAD = '''\
"""$name on a telephone line in memory; time passes when a test says so."""

# isort: skip_file
from __future__ import annotations

'''

_LOAD = """
# Imported and checked as a server does it.
applet = load_applet(Path(__file__).parents[1] / "$name.py")
"""

_PLAY_TEST = (
    _TEST_HEAD
    + """\
import wave
from pathlib import Path

import pytest
from agentstream.testing.applet import run_applet
from agentstream.testing.dropin import load_applet
"""
    + _LOAD
    + '''

@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A second of silence."""
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * 8000))
    return tmp_path / "sound.wav"


def test_all_of_it_is_played(sound: Path) -> None:
    run = run_applet(applet, file=sound)
    assert len(run.played) == 8000
    run.advance(0.9)
    assert run.outcome == ""
    run.advance(0.2)
    assert run.outcome == "done"


def test_a_key_cuts_it_short(sound: Path) -> None:
    run = run_applet(applet, file=sound)
    run.advance(0.5)
    run.press("1")
    assert run.outcome == "skipped"
    assert run.line.silenced == 1


def test_the_caller_hangs_up(sound: Path) -> None:
    run = run_applet(applet, file=sound)
    run.hang_up()
    assert run.is_over
    assert run.error == ""
'''
)

_VOICEBOT_TEST = (
    _TEST_HEAD
    + """\
from pathlib import Path

from agentstream.testing.applet import run_applet
from agentstream.testing.dropin import load_applet
"""
    + _LOAD
    + """
URL = "ws://127.0.0.1:5001/media"


def test_the_bot_ends_it() -> None:
    run = run_applet(applet, url=URL, beep_ms=500)
    assert len(run.played) == 4000
    assert run.stream.spec.url == URL
    assert run.outcome == ""
    run.stream.close()
    assert run.outcome == "done"


def test_the_connection_breaks() -> None:
    run = run_applet(applet, url=URL)
    run.stream.drop()
    assert run.outcome == "failed"


def test_there_is_no_bot() -> None:
    run = run_applet(applet, url=URL, refusal="nobody listens there")
    assert run.outcome == "failed"


def test_the_caller_hangs_up() -> None:
    run = run_applet(applet, url=URL)
    run.hang_up()
    assert run.stream.stopped == "callended"
    assert run.error == ""
"""
)

_PLAIN_TEST = (
    _TEST_HEAD
    + """\
from pathlib import Path

import pytest
from agentstream.testing.applet import run_applet
from agentstream.testing.dropin import load_applet
"""
    + _LOAD
    + """

@pytest.mark.parametrize(
    ("caller", "outcome"),
    [("+919845000000", "matched"), ("+15550100", "other"), ("", "other")],
)
def test_the_number_decides(caller: str, outcome: str) -> None:
    run = run_applet(applet, caller=caller, prefix="+91")
    assert run.outcome == outcome
    assert run.error == ""
"""
)

KINDS = {
    "play": Kind("plays a sound file, and a key cuts it short", _PLAY, _PLAY_TEST, ('file = "welcome.wav"',)),
    "voicebot": Kind("beeps and connects a bot", _VOICEBOT, _VOICEBOT_TEST, ('url = "ws://127.0.0.1:5001/media"',)),
    "plain": Kind(
        "decides and makes no sound",
        _PLAIN,
        _PLAIN_TEST,
        ('prefix = "+91"', 'on.other = "another_step"       # required'),
    ),
}
"""What ``--kind`` takes."""
