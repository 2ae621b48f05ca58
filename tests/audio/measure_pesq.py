"""PESQ of lost speech: silence, repetition and pitch; and of speech that is made shorter.

Not a test: it wants the package ``pesq``, which is built in C.
``pip install pesq`` into an environment of your own, then ``python -m tests.audio.measure_pesq``. Wants Debian's
asterisk-core-sounds-en-wav and pocketsphinx-testdata: 20 sentences, each with 5 fixed loss lists of 20 ms packets.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from agentstream.audio import timescale
from agentstream.audio.conceal import Concealment
from agentstream.audio.g711 import PCM_TO_ULAW, ULAW_TO_PCM
from agentstream.media.seams import Seams
from tests.oracles.conceal import PlainRepetition, PlainSilence

Pcm = npt.NDArray[np.int16]

ASTERISK = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
POCKETSPHINX = Path("/usr/share/pocketsphinx/test/data")
LISTS = 5
LONGEST_S = 9
SHORTENED_EVERY = 20
"""Packets between two blocks of 10 ms that are to be left out: 400 ms, far more than any call needs."""


def sentences() -> Iterator[Pcm]:
    """13 prompts of 4 to 9 s, and 7 recordings of other speakers, at 8 kHz."""
    prompts = [path for path in sorted(ASTERISK.glob("*.wav")) if 4 <= soundfile.info(path).duration <= LONGEST_S]
    paths = [
        *prompts[:: len(prompts) // 13][:13],
        *sorted((POCKETSPHINX / "librivox").glob("*.wav"))[:5],
        POCKETSPHINX / "goforward.raw",
        POCKETSPHINX / "something.raw",
    ]
    for path in paths:
        if path.suffix == ".raw":
            sound, rate_hz = np.fromfile(path, "<i2"), 16000
        else:
            sound, rate_hz = soundfile.read(path, dtype="int16")
        if rate_hz != 8000:
            sound = soxr.resample(sound, rate_hz, 8000)
        sound = sound[: LONGEST_S * 8000]
        yield sound[: len(sound) // 160 * 160]


def losses(kind: str, number: int, packets: int) -> list[bool]:
    """5 % of the packets, each by itself, or 3 % in bursts of 3; none of the first 10."""
    chance = random.Random(f"{kind}{number}")
    lost: list[bool] = []
    while len(lost) < packets:
        if kind == "5 % random":
            lost.append(chance.random() < 0.05)
        else:
            lost += [True] * 3 if chance.random() < 0.01 / 0.98 else [False]
    return [False] * 10 + lost[10:packets]


def heard(method: str, sound: Pcm, lists: list[list[bool]]) -> list[Pcm]:
    """What comes out of the sentence with each of the lists of losses."""
    blocks = sound.reshape(-1, 80)
    out = np.zeros((len(lists), *blocks.shape), np.int16)
    rows = Concealment(len(lists), 80)
    kind = PlainSilence if method == "silence" else PlainRepetition
    plain = [kind(80) for _ in lists]
    for at, block in enumerate(blocks):
        lost = [row for row, packets in enumerate(lists) if packets[at // 2]]
        if method == "pitch":
            out[:, at] = block
            rows.repair(out[:, at], np.array(lost, np.intp))
        else:
            for row, one in enumerate(plain):
                out[row, at] = one.conceal() if row in lost else one.good(block.tolist())
    return [row.reshape(-1) for row in out]


def shortened(method: str, sound: Pcm, every: int) -> tuple[Pcm, float]:
    """The sentence with a block of 10 ms less each so many packets; and how many ms a good place was waited for."""
    seams, rows = Seams(1, 80), np.array([0])
    seams.forget(0)
    out: list[Pcm] = []
    at, due, waits = 0, every * 160, [0]
    while at + 240 <= len(sound):
        ahead = sound[None, at : at + 240]
        if at >= due:
            places, _ = timescale.find_seams(ahead) if method == "best at once" else (np.zeros(1, np.intp), None)
            is_now = True
            if method == "seams":
                is_unheard, places = seams.find(rows, ahead)
                is_now = bool(is_unheard[0])
            if is_now:
                at += 80
                due = max(due + every * 160, at)
                left = ahead[0, 80:] if method == "dropped" else timescale.leave_out(ahead, places)[0]
                out.append(left)
                at += 160
                waits.append(0)
                continue
            waits[-1] += 20
        out.append(sound[at : at + 160])
        at += 160
    return np.concatenate((*out, sound[at:])), float(np.mean(waits))


def main() -> None:
    from pesq import pesq

    scores: dict[tuple[str, str], list[float]] = {}
    for sound in sentences():
        coded = ULAW_TO_PCM[PCM_TO_ULAW[sound.view(np.uint16)]]
        scores.setdefault(("none", "-"), []).append(pesq(8000, sound, coded, "nb"))
        for kind in ("5 % random", "3 % in bursts of 3"):
            lists = [losses(kind, number, len(sound) // 160) for number in range(LISTS)]
            for method in ("silence", "repetition", "pitch"):
                for result in heard(method, coded, lists):
                    scores.setdefault((kind, method), []).append(pesq(8000, sound, result, "nb"))
        for method in ("dropped", "faded at once", "best at once", "seams"):
            result, wait_ms = shortened(method, coded, SHORTENED_EVERY)
            scores.setdefault(("10 ms less of 400", method), []).append(pesq(8000, sound, result, "nb"))
            scores.setdefault(("  waited, ms", method), []).append(wait_ms)
    for (kind, method), each in scores.items():
        print(f"{kind:20} {method:12} {np.mean(each):.3f}  ({len(each)} runs)")


if __name__ == "__main__":
    main()
