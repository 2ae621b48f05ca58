"""Two detectors that have to agree: a network that is a function, one in a thread, and the real one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from twisted.internet.task import Clock

from agentstream.audio.activity import Activity, ActivitySettings
from agentstream.audio.neural import SPEECH, Batch, Floats, Infer, States
from agentstream.errors import StartError
from agentstream.media.silero import MODEL, MODEL_SHA256, Judge, ThreadJudge, load_silero
from agentstream.media.speech import SpeechChange, SpeechWatch
from tests.audio.speech import Pcm, coded, recorded, with_noise
from tests.audio.test_activity import PROMPTS, SOUNDS_THAT_ARE_NO_SPEECH
from tests.audio.voices import background, syllables
from tests.media.kit import make_world
from tests.media.test_speech import call, frames_of, say

FRAME_MS = 20


def always(probability: float) -> Infer:
    """A network that has an opinion of its own."""
    return lambda sound, state: (np.full(len(sound), probability, np.float32), state)


class PromptJudge(Judge):
    """Answers at once, unless it ``is_away``."""

    is_away = False

    def _wake(self) -> None:
        if not self.is_away:
            super()._wake()


def hear(watch: SpeechWatch, sound: Pcm, clock: Clock | None = None) -> list[SpeechChange]:
    """What one row's sound leads to; without a row before it."""
    changes = []
    for at in range(0, len(sound) - 159, 160):
        watch.hear(sound[None, at : at + 160])
        changes += [change for _, change in watch.take()]
        if clock is not None:
            clock.advance(0.02)
    return changes


def watch_with(judge: Judge, **chosen: int) -> SpeechWatch:
    watch = SpeechWatch(1, 8000, ActivitySettings(**chosen), judge)
    watch.open(0)
    return watch


SAID = np.concatenate([background(1000), syllables(600), background(600)])


def test_a_caller_speaks_when_both_say_so() -> None:
    both = hear(watch_with(PromptJudge(States(1, always(0.9)))), SAID)
    alone = SpeechWatch(1, 8000, ActivitySettings())
    alone.open(0)
    assert both == hear(alone, SAID)  # the network is not the later one
    assert [change.is_speaking for change in both] == [True, False]
    assert hear(watch_with(PromptJudge(States(1, always(0.4)))), SAID) == []


def test_speech_begins_when_the_later_one_hears_it_and_ends_when_the_first_hears_none() -> None:
    """A network that hears speech only from half a second of loud sound on, for 400 ms."""
    windows = 0

    def infer(sound: Floats, state: Floats) -> tuple[Floats, Floats]:
        nonlocal windows
        windows += 1
        return np.array([0.9 if 17 <= windows <= 29 else 0.1], np.float32), state

    sound = np.concatenate([background(1000), syllables(3000), background(600)])
    began, ended = hear(watch_with(PromptJudge(States(1, infer))), sound)
    assert began.is_speaking and not ended.is_speaking
    assert began.at_ms == 992 + 16 * 32  # the first window began 8 ms before the sound
    assert 416 <= ended.at_ms - began.at_ms <= 416 + 20 + 20  # a tick later, in frames of 20 ms


def test_what_is_between_the_two_thresholds_goes_on_and_does_not_begin() -> None:
    values = iter([0.4] * 10 + [0.9] * 3 + [0.4] * 200)
    sound = np.concatenate([background(1000), syllables(3000), background(600)])
    infer: Infer = lambda sound, state: (np.array([next(values)], np.float32), state)  # noqa: E731
    began, ended = hear(watch_with(PromptJudge(States(1, infer))), sound)
    assert 1300 <= began.at_ms <= 1360 and 3900 <= ended.at_ms <= 4100


def test_only_loud_rows_are_asked_about() -> None:
    judge = PromptJudge(States(3, always(0.9)))
    watch = SpeechWatch(3, 8000, ActivitySettings(), judge)
    asked: list[int] = []
    judge.states.answer = lambda batch: asked.extend(batch.rows.tolist()) or np.ones(len(batch.rows))  # type: ignore[method-assign,func-returns-value]
    sound = np.stack([background(2200), SAID, np.zeros(len(SAID), np.int16)])
    for at in range(0, len(SAID), 160):
        watch.hear(sound[:, at : at + 160])
    assert set(asked) == {1}
    assert 600 / 32 <= len(asked) <= 1000 / 32


def test_energy_decides_alone_while_the_network_is_behind() -> None:
    clock = Clock()
    judge = PromptJudge(States(1, always(0.1)), clock.seconds)
    judge.is_away = True
    watch = watch_with(judge)
    changes = hear(watch, np.concatenate([SAID, SAID]), clock)
    alone = SpeechWatch(1, 8000, ActivitySettings())
    alone.open(0)
    expected = [(change.is_speaking, change.at_ms) for change in hear(alone, np.concatenate([SAID, SAID]))]
    assert [(change.is_speaking, change.at_ms) for change in changes] == expected and len(expected) == 4
    assert judge.windows == 0 and judge.dropped > 20
    assert len(judge._waiting) <= 5  # no more than 0.1 s of them
    assert 1.0 < watch.alone_s < 2.0
    judge.is_away = False
    assert hear(watch, np.concatenate([SAID, SAID]), clock) == []
    assert judge.windows > 20


def test_a_network_that_fails_is_told_of_once_a_minute_and_energy_decides(
    caught: list[str],
) -> None:
    clock = Clock()

    def infer(sound: Floats, state: Floats) -> tuple[Floats, Floats]:
        raise ValueError("planted")

    judge = PromptJudge(States(1, infer), clock.seconds)
    changes = hear(watch_with(judge), np.concatenate([SAID] * 30), clock)
    assert len(changes) == 60 and judge.windows == 0 and judge.dropped > 500
    assert caught == ["the neural speech detector failed, and energy decides alone: ValueError('planted')"] * 2


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(
        "agentstream.media.silero.Logger.error",
        lambda self, text, **fields: told.append(text.format(**fields)),
    )
    return told


def test_a_plane_tells_its_legs_what_both_agree_on() -> None:
    """Row 0 is speech to the network, row 1 is not."""

    class Half(PromptJudge):
        def work(self) -> None:
            _, batch = self._waiting.popleft()
            self._answers.append((batch, np.where(batch.rows == 0, 0.9, 0.1).astype(np.float32)))

    world = make_world(judge=Half(States(16, always(0))))
    (first, heard), (second, nothing) = call(world), call(world)
    frames = frames_of(np.concatenate([background(500), syllables(600), background(600)]))
    say(world, 100, (first, frames), (second, frames))
    assert [change.is_speaking for change in heard] == [True, False]
    assert nothing == []
    assert world.plane.speech_alone_s == 0
    world.plane.stop()


def batch_of(rows: int) -> Batch:
    return Batch(np.arange(rows), np.zeros(rows, np.int64), np.ones(rows, np.bool_), np.zeros((rows, 288), np.int16), 0)


def test_a_thread_answers_in_order_and_ends_when_told() -> None:
    answered = threading.Semaphore(0)
    threads = set()

    def infer(sound: Floats, state: Floats) -> tuple[Floats, Floats]:
        threads.add(threading.current_thread())
        return np.full(len(sound), len(sound) / 64, np.float32), state

    class Counting(ThreadJudge):
        def work(self) -> None:
            super().work()
            answered.release()

    judge = Counting(States(64, infer))
    judge.start()
    judge.put([batch_of(size) for size in (64, 32, 16)])
    for _ in range(3):
        assert answered.acquire(timeout=10)
    answers = judge.take()
    assert [float(probabilities[0]) for _, probabilities in answers] == [1.0, 0.5, 0.25]
    assert judge.windows == 112 and judge.dropped == 0 and judge.cpu_s > 0
    assert judge.take() == []
    judge.stop()
    (thread,) = threads
    assert thread is not threading.current_thread() and not thread.is_alive()


# The real network


@pytest.fixture(scope="module")
def network() -> Iterator[Infer]:
    pytest.importorskip("onnxruntime")
    yield load_silero()


def test_the_model_is_the_one_that_it_is_said_to_be() -> None:
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() == MODEL_SHA256
    assert "MIT License" in (MODEL.parent / "LICENSE.silero_vad").read_text()


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("snr_db", [60, 20, 10])
def test_recorded_speech_is_speech(name: str, snr_db: int, network: Infer) -> None:
    """Noticed as early as by energy alone, within two frames, and until its end."""
    speech = recorded(name).astype(np.float64)
    sound = with_noise(np.concatenate((np.zeros(24_000), speech, np.zeros(16_000))), snr_db)
    judge = PromptJudge(States(1, network))
    energy, watch = Activity(1), watch_with(judge)
    by_energy, by_both = [], []
    for at in range(0, len(sound) - 159, 160):
        frame = sound[None, at : at + 160]
        by_energy.append(bool(energy.hear(frame)[0]))
        watch.hear(frame)
        by_both.append(bool(watch._was[0]))
    assert not any(by_both[:150])
    assert 0 <= by_both.index(True) - by_energy.index(True) <= 2
    assert sum(by_both) >= 0.9 * sum(by_energy)
    assert judge.dropped == 0 and watch.alone_s == 0


def music() -> np.ndarray:
    """10 s of a melody with vibrato and a beat."""
    random, time_s = np.random.default_rng(3), np.arange(80_000) / 8000
    hz = np.repeat([262, 330, 392, 523, 440, 349, 294, 330], 10_000)
    phase = 2 * np.pi * np.cumsum(hz * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * time_s))) / 8000
    melody = 4000 * np.exp(-3 * (4 * time_s % 1)) * sum(np.sin(k * phase) / k for k in range(1, 6))
    return np.asarray(melody + random.normal(0, 3000, 80_000) * np.exp(-20 * (2 * time_s % 1)))


def bursts() -> np.ndarray:
    """10 s of low noise that comes and goes, as of steps or wind."""
    random, time_s = np.random.default_rng(3), np.arange(80_000) / 8000
    low = np.convolve(random.normal(0, 9000, 80_000), np.ones(6) / 6, "same")
    return np.asarray(low * (3 * time_s % 1 < 0.4) + random.normal(0, 20, 80_000))


def traffic() -> np.ndarray:
    """A rumble that begins."""
    random = np.random.default_rng(2)
    rumble = np.convolve(random.normal(0, 4000, 48_000), np.ones(8) / 8, "same")
    return np.concatenate((rumble[:16_000] / 100, rumble))


@pytest.mark.parametrize("sound", [music, bursts, traffic])
def test_what_only_energy_takes_for_speech_is_none(sound: object, network: Infer) -> None:
    heard = coded(sound())  # type: ignore[operator]
    alone = SpeechWatch(1, 8000, ActivitySettings())
    alone.open(0)
    assert hear(alone, heard) != []
    assert hear(watch_with(PromptJudge(States(1, network))), heard) == []


@pytest.mark.parametrize("name", SOUNDS_THAT_ARE_NO_SPEECH)
def test_the_network_hears_no_speech_in_tones_and_hiss(name: str, network: Infer) -> None:
    """Asked about everything, as though it had been loud and like speech."""
    sound = coded(SOUNDS_THAT_ARE_NO_SPEECH[name])
    states, most = States(1, network), 0.0
    for number, at in enumerate(range(0, len(sound) - 287, 256)):
        batch = Batch(
            np.array([0]), np.zeros(1, np.int64), np.array([number == 0]), sound[None, at : at + 288], 32 * number
        )
        most = max(most, float(states.answer(batch)[0]))
    assert most < SPEECH


def test_a_row_is_judged_alike_in_a_batch_and_alone(network: Infer) -> None:
    random = np.random.default_rng(1)
    sound = recorded("demo-congrats")[4000:].astype(np.int16)
    first = np.ones(64, np.bool_)
    many, one = States(64, network), States(64, network)
    for step in range(6):
        places = random.integers(0, 20_000, 64)
        windows = np.stack([sound[place : place + 288] for place in places])
        rows = np.arange(64)
        together = many.answer(Batch(rows, rows, first, windows, 0))
        for row in (0, 31, 63):
            only = Batch(rows[row : row + 1], rows[row : row + 1], first[:1], windows[row : row + 1], 0)
            assert float(one.answer(only)[0]) == pytest.approx(float(together[row]), abs=1e-4)
        first = np.zeros(64, np.bool_) if step else first


def test_a_file_that_is_no_model_is_one_sentence(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path_factory.mktemp("model") / "broken.onnx"
    file.write_bytes(b"none")
    with pytest.raises(StartError, match=r"the speech detector .*broken\.onnx cannot be loaded"):
        load_silero(file)
