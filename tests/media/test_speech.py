"""Who speaks, told of every leg behind the tick that noticed it."""

from __future__ import annotations

import numpy as np

from agentstream.audio.activity import Activity, ActivitySettings
from agentstream.audio.g711 import PCM_TO_ULAW
from agentstream.media.speech import SpeechChange, SpeechWatch
from tests.audio.voices import background, syllables
from tests.media.kit import FarEnd, World, make_world, ulaw_noise

FRAME_MS = 20


def frames_of(sound: np.ndarray) -> list[bytes]:
    coded = PCM_TO_ULAW[sound.view(np.uint16)]
    return [coded[at : at + 160].tobytes() for at in range(0, len(coded) - 159, 160)]


def call(world: World) -> tuple[FarEnd, list[SpeechChange]]:
    far = world.call()
    changes: list[SpeechChange] = []
    far.leg.on_speech = changes.append
    return far, changes


def say(world: World, ticks: int, *said: tuple[FarEnd, list[bytes]]) -> None:
    for tick in range(ticks):
        for far, frames in said:
            if tick < len(frames):
                far.say(frames[tick])
        world.ticks(1)


def test_the_watch_says_what_the_detector_says_and_when() -> None:
    """Against the flags of a detector of its own, frame by frame."""
    sound = np.concatenate([background(200), syllables(600), background(600), syllables(300, seed=2)])
    sound = np.stack([sound, np.roll(sound, 2400), background(1700)])
    watch, plain = SpeechWatch(3, 8000, ActivitySettings()), Activity(3)
    was, expected, told = np.zeros(3, bool), [], []
    for row in range(3):
        watch.open(row)
    for at in range(0, sound.shape[1], 160):
        frames = sound[:, at : at + 160]
        now = plain.hear(frames).copy()
        end_ms = at // 8 + FRAME_MS
        for row in np.flatnonzero(now != was).tolist():
            expected.append((row, bool(now[row]), end_ms - (80 if now[row] else 300)))
        was = now
        watch.hear(frames)
        told += [(row, change.is_speaking, change.at_ms) for row, change in watch.take()]
    assert told == expected
    assert {row for row, _, _ in told} == {0, 1} and len(told) == 5


def test_each_leg_is_told_of_its_own_speech_and_noise_is_none() -> None:
    world = make_world()
    (speaks, heard), (hisses, none), (waits, nothing) = call(world), call(world), call(world)
    sound = frames_of(syllables(600))
    quiet = frames_of(background(500))
    say(world, 100, (speaks, quiet + sound + quiet), (hisses, quiet + ulaw_noise(30, 3)), (waits, quiet))
    assert [change.is_speaking for change in heard] == [True, False]
    began, ended = heard
    assert 500 <= began.at_ms <= 640 and 1100 <= ended.at_ms <= 1240  # the playout delay is in it
    assert -25 < began.level_dbov < -10 and began.level_dbov - 1 <= ended.level_dbov < -10
    assert none == nothing == []
    world.plane.stop()


def test_a_new_leg_in_the_row_of_one_that_spoke_is_quiet() -> None:
    world = make_world(rows=1)
    far, heard = call(world)
    say(world, 40, (far, frames_of(np.concatenate([background(400), syllables(400)]))))
    assert [change.is_speaking for change in heard] == [True]
    far.leg.close()
    assert far.leg.heard_ms == 0
    world.ticks(150)
    other, changes = call(world)
    world.ticks(50)
    assert changes == [] and len(heard) == 1 and other.leg.heard_ms == 1000
    world.plane.stop()


def test_who_is_told_may_close_the_leg_and_open_another_in_its_row() -> None:
    world = make_world(rows=2)
    (first, _), (second, heard) = call(world), call(world)
    opened: list[FarEnd] = []
    wrong: list[SpeechChange] = []

    def close_both(change: SpeechChange) -> None:
        first.leg.close()
        second.leg.close()
        opened.append(world.call())
        opened[0].leg.on_speech = wrong.append

    first.leg.on_speech = close_both
    sound = frames_of(np.concatenate([background(400), syllables(400)]))
    for frame in sound:
        if not opened:
            first.say(frame)
            second.say(frame)
        world.ticks(1)
    assert len(opened) == 1 and heard == wrong == []
    world.plane.stop()
