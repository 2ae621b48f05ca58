"""Recorded calls through a whole server: the file against what the phone said and heard."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from twisted.internet.defer import Deferred, maybeDeferred

from agentstream.audio import g711
from agentstream.flow import recordings, tape_file, wav
from agentstream.testing.bots import Echo, Speaker
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import URL, bot_flow, samples

RATE_HZ = 8000


def recorded(folder: Path, pattern: str = "*.wav") -> Path:
    """The one file that there is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.match(pattern) for path in files] == [True], files
    return files[0]


def config(folder: Path, **settings: Any) -> dict[str, Any]:
    """With a fixed delay, so that no 10 ms are left out of what a caller says to make it shorter."""
    media = {"playout_ms": 60, "playout_min_ms": 60, "playout_max_ms": 60}
    return {"media": media, "recording": {"folder": str(folder), **settings}}


def test_a_call_with_a_bot_is_recorded_sample_for_sample(tmp_path: Path) -> None:
    with ServerUnderTest(bot_flow(record=True), config(tmp_path)) as server:
        server.bot(Echo)
        phone = server.call()
        phone.say(speech(3000))
        server.advance(5)
        phone.hang_up()
        server.advance(1)
        [started], [ended] = server.events("recording_started"), server.events("recording_ended")
        said, heard = speech(3000), phone.heard()
    file = recorded(tmp_path)
    assert started.fields["file"] == ended.fields["file"] == str(file)
    assert file.stem == started.call_sid
    both, rate_hz = soundfile.read(file, dtype="int16")
    assert rate_hz == RATE_HZ and both.shape[1] == 2
    assert ended.fields["seconds"] == len(both) / RATE_HZ
    assert ended.fields["bytes"] == 4 * len(both) == file.stat().st_size - 44
    left, right = both[:, 0], both[:, 1]
    begins = int(np.flatnonzero(left)[0])
    np.testing.assert_array_equal(left[begins:][: len(said)], samples(said))
    sent = g711.PCM_TO_ULAW[np.ascontiguousarray(right).view(np.uint16)].tobytes()
    # From the recording's first slot on, the phone heard exactly this.
    assert heard.endswith(sent) and said in sent


def test_a_paused_recording_goes_on_at_its_time(tmp_path: Path) -> None:
    """The applet `record` begins, pauses and resumes; what is played meanwhile is silence of the same length."""
    steps: dict[str, Any] = {
        "on": {"applet": "record", "next": "first"},
        "first": {"applet": "play", "file": "a.wav", "next": "hush"},
        "hush": {"applet": "record", "action": "pause", "next": "second"},
        "second": {"applet": "play", "file": "b.wav", "next": "again"},
        "again": {"applet": "record", "action": "resume", "next": "third"},
        "third": {"applet": "play", "file": "a.wav", "next": "off"},
        "off": {"applet": "record", "action": "stop", "next": "fourth"},
        "fourth": {"applet": "play", "file": "b.wav"},
    }
    sounds = {"a.wav": samples(speech(1000, seed=1)), "b.wav": samples(speech(1000, seed=2))}
    with ServerUnderTest({"start": "on", "step": steps}, config(tmp_path), sounds=sounds) as server:
        server.call()
        server.advance_until(lambda: server.events("call_ended"))
        kinds = [event.kind for event in server.timeline if event.kind.startswith("recording")]
        paused, resumed = server.events("recording_paused")[0], server.events("recording_resumed")[0]
    assert kinds == [f"recording_{what}" for what in ("started", "paused", "resumed", "ended")]
    both, _ = soundfile.read(recorded(tmp_path), dtype="int16")
    assert not both[:, 0].any()
    right = both[:, 1]
    begins = int(np.flatnonzero(right)[0])
    expected = np.concatenate((sounds["a.wav"], np.zeros(8000, np.int16), sounds["a.wav"]))
    quiet = slice(begins + 8000, begins + 16000)
    np.testing.assert_array_equal(right[begins : begins + 8000], expected[:8000])
    assert not right[quiet].any()
    again = begins + 8000 + int(np.flatnonzero(right[begins + 8000 :])[0])
    assert again - (begins + 8000) == round((resumed.at - paused.at) * RATE_HZ) + (again - begins) % 160
    np.testing.assert_array_equal(right[again : again + 8000], expected[16000:])


def test_mono_is_both_in_one(tmp_path: Path) -> None:
    with ServerUnderTest(bot_flow(record=True), config(tmp_path, channels="mono")) as server:
        server.bot(Echo)
        phone = server.call()
        server.advance(0.5)
        phone.say(speech(1000))
        server.advance(3)
        phone.hang_up()
        server.advance(1)
    mono, _ = soundfile.read(recorded(tmp_path), dtype="int16")
    said = samples(speech(1000))
    assert mono.ndim == 1
    begins = int(np.flatnonzero(mono)[0])
    np.testing.assert_array_equal(mono[begins : begins + 800], said[:800])
    assert len(np.flatnonzero(mono)) >= len(said)


@pytest.mark.parametrize("kind", ["flac", "opus", "mp3"])
def test_other_formats_are_made_behind_the_call(tmp_path: Path, kind: str) -> None:
    flow = {"start": "a", "step": {"a": {"applet": "record", "next": "b"}, "b": {"applet": "play", "file": "a.wav"}}}
    sounds = {"a.wav": samples(speech(12000))}
    with ServerUnderTest(flow, config(tmp_path, format=kind), sounds=sounds) as server:
        server.call()
        server.advance_until(lambda: server.events("call_ended"), 20)
        [ended], [converted] = server.events("recording_ended"), server.events("recording_converted")
    file = recorded(tmp_path, f"*.{kind}")
    assert ended.fields["file"] == converted.fields["file"] == str(file)
    info = soundfile.info(str(file))
    assert info.channels == 2
    assert info.duration == pytest.approx(ended.fields["seconds"], abs=0.2)
    if kind == "flac":
        both, _ = soundfile.read(file, dtype="int16")
        begins = int(np.flatnonzero(both[:, 1])[0])
        np.testing.assert_array_equal(both[begins:, 1][:96000], sounds["a.wav"])


def full_disk(room: int) -> Any:
    """os.write on a disk with room for this many bytes more."""
    write = os.write

    def limited(fd: int, data: Any) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, bytes(data)[:room])
        room -= written
        return written

    return limited


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_full_disk_ends_the_recording_and_never_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """20,001 bytes find room, in the middle of a sample: what is kept is whole blocks."""
    with ServerUnderTest(bot_flow(record=True), config(tmp_path, format=kind)) as server:
        server.bot(Echo)
        phone = server.call()
        monkeypatch.setattr(tape_file.os, "write", full_disk(20_001))
        phone.say(speech(3000))
        server.advance(3)
        [failed], [ended] = server.events("recording_failed"), server.events("recording_ended")
        assert failed.fields["reason"] == "No space left on device"
        assert not phone.is_over and server.service.recordings.running == 0
        monkeypatch.undo()
        server.advance(1)
        assert speech(3000) in phone.heard()
    file = recorded(tmp_path)
    assert ended.fields["file"] == str(file)
    both, _ = soundfile.read(file, dtype="int16")
    assert ended.fields["bytes"] == 4 * len(both) == file.stat().st_size - 44 > 0
    left = both[:, 0]
    begins = int(np.flatnonzero(left)[0])
    np.testing.assert_array_equal(left[begins:], samples(speech(3000))[: len(left) - begins])


def test_a_folder_that_cannot_be_made_ends_the_recording_and_never_the_call(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a file")
    with ServerUnderTest(bot_flow(record=True), config(tmp_path / "here")) as server:
        server.bot(Echo)
        phone = server.call()
        phone.say(speech(500))
        server.advance(2)
        [failed], [ended] = server.events("recording_failed"), server.events("recording_ended")
        assert failed.fields["reason"] == "Not a directory"
        assert ended.fields["file"] == "" and ended.fields["bytes"] == 0
        assert speech(500) in phone.heard()


def test_a_disk_that_hangs_ends_the_recording_at_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerUnderTest(bot_flow(record=True), config(tmp_path)) as server:
        server.bot(Echo)
        phone = server.call()
        server.advance(0.1)
        hanging: list[tuple[Any, Deferred[None]]] = []

        def hang(work: Any) -> Deferred[None]:
            hanging.append((work, Deferred()))
            return hanging[-1][1]

        files = server.service.recordings
        monkeypatch.setattr(recordings, "MOST_WAITING_BYTES", 3 * 16_000)
        monkeypatch.setattr(files, "_in_thread", hang)
        server.advance(5)
        [failed] = server.events("recording_failed")
        assert failed.fields["reason"] == "the disk does not keep up"
        assert files.waiting_bytes <= 3 * 16_000 and len(hanging) == 1
        monkeypatch.setattr(files, "_in_thread", maybeDeferred)
        work, done = hanging.pop()
        work()
        done.callback(None)
        assert files.waiting_bytes == 0
        [ended] = server.events("recording_ended")
        assert not phone.is_over
    both, _ = soundfile.read(recorded(tmp_path))
    assert len(both) / RATE_HZ == ended.fields["seconds"] > 1


def test_the_second_recording_of_a_call_has_a_name_of_its_own(tmp_path: Path) -> None:
    steps = {
        "a": {"applet": "voicebot", "url": URL, "record": True, "next": "b"},
        "b": {"applet": "voicebot", "url": URL, "record": True},
    }
    with ServerUnderTest({"start": "a", "step": steps}, config(tmp_path)) as server:
        piece = samples(speech(500)).astype("<i2").tobytes()

        class Once(Speaker):
            def __init__(self) -> None:
                super().__init__(piece)

            def on_start(self, start: dict[str, Any]) -> None:
                super().on_start(start)
                self.close()

        server.bot(Once, Once)
        server.call()
        server.advance_until(lambda: server.events("call_ended"))
        names = [event.fields["file"] for event in server.events("recording_ended")]
        sid = server.events("call_ended")[0].call_sid
    assert [Path(name).name for name in names] == [f"{sid}.wav", f"{sid}-2.wav"]
    for name in names:
        both, _ = soundfile.read(name, dtype="int16")
        assert len(np.flatnonzero(both[:, 1])) == 4000


def cut_off(folder: Path, kind: str) -> bytes:
    """A server that is no more left a recording behind, with a header that is older than its end."""
    file = tape_file.TapeFile(folder / "2026-01-01" / "x.wav.part", 2, RATE_HZ)
    file.open()
    sound = samples(speech(1000)).repeat(2).astype("<i2").tobytes()
    file.write(sound)
    file.close()
    with file.part.open("ab") as more:
        more.write(sound + b"\1")
    return sound + sound


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_what_a_crash_has_left_is_finished_at_the_next_start(tmp_path: Path, kind: str) -> None:
    sound = cut_off(tmp_path, kind)
    with ServerUnderTest(bot_flow(), config(tmp_path, format=kind)):
        both, _ = soundfile.read(recorded(tmp_path, f"x.{kind}"), dtype="int16")
        assert both.astype("<i2").tobytes() == sound


def test_what_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    cut_off(tmp_path, "wav")
    foreign = tmp_path / "2026-01-01" / "y.wav.part"
    foreign.write_bytes(b"no WAV file of ours")
    (tmp_path / "2026-01-01" / "z.wav.part").write_bytes(wav.header(1, RATE_HZ, 0))
    [part] = (tmp_path / "2026-01-01").glob("x.*")
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with ServerUnderTest(bot_flow(), config(tmp_path)):
            assert sorted(path.name for path in part.parent.iterdir()) == ["x.wav.part", "y.wav.part"]


def test_a_stop_of_the_node_writes_what_was_heard_and_leaves_the_rest_to_the_next_start(tmp_path: Path) -> None:
    with ServerUnderTest(bot_flow(record=True), config(tmp_path, format="flac")) as server:
        server.bot(Echo)
        phone = server.call()
        phone.say(speech(1000))
        server.advance(2)
        stopped = server.begin_stop()
        server.service.recordings._is_closing = True  # as while it waits for a disk
        server.advance(8)
        assert stopped.called and phone.is_over
        [ended] = server.events("recording_ended")
    part = recorded(tmp_path, "*.wav.part")
    assert soundfile.info(str(part)).duration == ended.fields["seconds"] > 2
    with ServerUnderTest(bot_flow(), config(tmp_path, format="flac")):
        assert soundfile.info(str(recorded(tmp_path, "*.flac"))).duration == ended.fields["seconds"]
