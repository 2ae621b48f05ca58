"""PESQ of speech through a whole server on a clean line: what the bot hears, and what its echo is to the caller.

Not a test: it wants the package ``pesq``, which is built in C, and speech from Debian; see
:mod:`tests.audio.measure_pesq`. ``python -m tests.server.measure_pesq``. The server has its defaults, so its playout
delay follows the arrivals; a caller begins to speak at once, or when that delay has settled.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentstream.audio.g711 import PCM_TO_ULAW, ULAW_TO_PCM
from agentstream.testing.bots import Echo
from agentstream.testing.server import ServerUnderTest
from tests.audio.measure_pesq import sentences
from tests.server.kit import bot_flow

Pcm = npt.NDArray[np.int16]

SETTLED_S = 10.0


def through_server(sound: bytes, quiet_s: float) -> tuple[Pcm, Pcm]:
    """What a bot heard of these mu-law bytes, and what the caller heard of its echo.

    :param quiet_s: how long the caller sends low noise before.
    """
    noise = PCM_TO_ULAW[np.random.default_rng(1).integers(-8, 8, int(8000 * quiet_s)).astype(np.int16).view(np.uint16)]
    with ServerUnderTest(bot_flow()) as server:
        bot = server.bot(Echo)
        phone = server.phone(codecs=("PCMU",))
        phone.dial("1000")
        server.advance(0.5)
        phone.say(noise.tobytes() + sound)
        server.advance(quiet_s + len(sound) / 8000 + 2)
        heard, echo = bot.session.audio, phone.heard()
    return np.frombuffer(heard, "<i2").astype(np.int16), ULAW_TO_PCM[np.frombuffer(echo, np.uint8)]


def aligned(heard: Pcm, said: Pcm) -> Pcm:
    """As much of what was heard as was said, from where it is most like it."""
    size = len(heard) + len(said)
    product = np.fft.rfft(heard.astype(float), size) * np.conj(np.fft.rfft(said.astype(float), size))
    lag = int(np.argmax(np.fft.irfft(product)[: len(heard)]))
    return np.pad(heard[lag:], (0, len(said)))[: len(said)]


def main() -> None:
    """Print the mean scores; 0.02 below that of G.711 alone is what may be lost."""
    from pesq import pesq

    scores: dict[str, list[float]] = {}
    for sound in sentences():
        ulaw = PCM_TO_ULAW[sound.view(np.uint16)]
        scores.setdefault("G.711 alone", []).append(pesq(8000, sound, ULAW_TO_PCM[ulaw], "nb"))
        for when, quiet_s in (("at once", 0.0), ("settled", SETTLED_S)):
            heard, echo = through_server(ulaw.tobytes(), quiet_s)
            for what, result in (("the bot", heard), ("its echo", echo)):
                score = pesq(8000, sound, aligned(result, sound), "nb")
                scores.setdefault(f"{what}, {when}", []).append(score)
    for name, each in scores.items():
        print(f"{name:20} {np.mean(each):.3f}  (least {min(each):.3f} of {len(each)})")


if __name__ == "__main__":
    main()
