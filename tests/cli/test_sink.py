"""The bench's bot, its notes and its report: one connection on loopback, driven by hand."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.cli.bench import frames, machine, tone_codes
from agentstream.cli.bench.notes import read
from agentstream.cli.bench.sink import BURST, MESSAGE, Sink
from agentstream.cli.bench.websocket import CLOSE, TEXT, FrameReader
from agentstream.cli.kernel_time import ANCILLARY_BYTES, IS_KERNEL_TIME, ArrivalClock, ask_for_time

from .test_websocket import masked

linux = pytest.mark.skipif(not IS_KERNEL_TIME, reason="Linux's epoll and SO_TIMESTAMPNS")


@pytest.fixture
def sink() -> Iterator[Sink]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    sink = Sink(listener, lambda: 0.5)
    yield sink
    for stream in list(sink.streams.values()):
        sink.close(stream)
    listener.close()
    sink.poller.close()


@pytest.fixture
def server_end(sink: Sink) -> Iterator[socket.socket]:
    with socket.create_connection(sink.listener.getsockname()) as sock:
        sock.settimeout(5)
        yield sock


def connect(sink: Sink, sock: socket.socket, path: str) -> None:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    sink.accept()
    turn(sink)
    assert b" 101 " in sock.recv(4096)
    sock.sendall(masked(TEXT, orjson.dumps({"event": "start", "start": {"stream_sid": "s1"}})))
    turn(sink)


def turn(sink: Sink) -> None:
    """Read what has come to the one connection."""
    for fd, _ in sink.poller.poll(5):
        sink.read(sink.streams[fd])


def media(*codes: bytes) -> bytes:
    sound = b"".join(code + b"\x9a" * 152 for code in codes)
    pcm = np.take(ULAW_TO_PCM, np.frombuffer(sound, np.uint8)).tobytes()
    return orjson.dumps({"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}})


@linux
def test_it_echoes_and_notes_every_number(
    sink: Sink, server_end: socket.socket, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sink.notes.open(str(tmp_path / "bot"))
    connect(sink, server_end, "/echo?x=1")
    assert orjson.loads(capsysbinary.readouterr().out) == {"kind": "stream_started", "streams": 1}
    text = media(frames.code_of(5, 7), frames.code_of(5, 8))
    server_end.sendall(masked(TEXT, text))
    turn(sink)
    ((opcode, echoed),) = FrameReader().receive(server_end.recv(65536))
    assert opcode == TEXT
    assert orjson.loads(echoed) == {"stream_sid": "s1", **orjson.loads(text)}
    sink.notes.close()
    codes = frames.codes_of_samples(read(tmp_path / "bot", "codes", np.int16, 8))
    is_code, calls, numbers = frames.read_codes(codes)
    assert numbers[is_code].tolist() == [7, 8] and set(calls[is_code]) == {5}
    assert read(tmp_path / "bot", "messages", MESSAGE)["blocks"].tolist() == [4]
    assert len(read(tmp_path / "bot", "pcm", np.int16, 80)) == 0


def spoken(sock: socket.socket) -> list[bytes]:
    """The sound of each message that the bot sent; what is no media is its text."""
    messages = [orjson.loads(text) for _, text in FrameReader().receive(sock.recv(65536))]
    assert {message["stream_sid"] for message in messages} == {"s1"}
    return [
        base64.b64decode(each["media"]["payload"]) if each["event"] == "media" else each["event"].encode()
        for each in messages
    ]


@linux
def test_a_probe_speaks_and_clears_when_it_is_due_and_echoes_nothing(
    sink: Sink, server_end: socket.socket, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sink.notes.open(str(tmp_path / "bot"))
    connect(sink, server_end, "/probe")
    server_end.sendall(masked(TEXT, media(frames.code_of(5, 7))))
    turn(sink)
    sink.begin_probes(100.0, 2.0)
    sink.speak_due(100.2)
    sink.speak_due(100.3)
    (pcm,) = spoken(server_end)
    assert len(pcm) == 640
    codes = frames.codes_of_samples(np.frombuffer(frames.pcm_code_fields(pcm), np.int16).reshape(-1, 8))
    is_code, calls, numbers = frames.read_codes(codes)
    assert numbers[is_code].tolist() == [0, 1] and set(calls[is_code]) == {frames.PROBE_CALL}
    sink.speak_due(100.9)
    assert [len(pcm) for pcm in spoken(server_end)] == [20 * 320]
    sink.speak_due(101.1)
    assert spoken(server_end) == [b"clear"]
    for late in range(2, 20):
        sink.speak_due(100.3 + late)
    assert not sink.due and sink.streams
    sink.notes.close()
    assert [record[1:] for record in read(tmp_path / "bot", "bursts", BURST).tolist()] == [
        (0, frames.PROBE_CALL),
        (22, frames.PROBE_CALL),
    ]
    assert read(tmp_path / "bot", "clears", BURST)["frame"].tolist()[0] == 2


@linux
def test_at_another_rate_it_notes_sound_and_speaks_in_tones(
    sink: Sink, server_end: socket.socket, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sink.rate_hz = 16000
    sink.notes.open(str(tmp_path / "bot"))
    connect(sink, server_end, "/probe")
    pcm = np.concatenate([tone_codes.pcm_of(5, frame, 16000) for frame in (7, 8)]).tobytes()
    text = orjson.dumps({"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}})
    server_end.sendall(masked(TEXT, text))
    turn(sink)
    sink.begin_probes(100.0, 2.0)
    sink.speak_due(100.3)
    assert spoken(server_end) == [
        b"".join(tone_codes.pcm_of(frames.PROBE_CALL, frame, 16000).tobytes() for frame in (0, 1))
    ]
    sink.notes.close()
    assert read(tmp_path / "bot", "messages", MESSAGE)["blocks"].tolist() == [4]
    assert len(read(tmp_path / "bot", "codes", np.int16, 8)) == 0
    pcm_read = read(tmp_path / "bot", "pcm", np.int16, 80)
    is_code, calls, numbers = frames.read_codes(tone_codes.read_streams(np.zeros(4), pcm_read))
    assert (numbers[is_code].tolist(), set(calls[is_code])) == ([7, 8], {5})


@linux
def test_a_close_frame_is_answered(sink: Sink, server_end: socket.socket) -> None:
    connect(sink, server_end, "/echo")
    server_end.sendall(masked(CLOSE, b"\x03\xe8"))
    turn(sink)
    assert FrameReader().receive(server_end.recv(4096)) == [(CLOSE, b"\x03\xe8")]
    assert not sink.streams


@linux
def test_the_kernel_tells_when_a_packet_came_in() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.1", 0))
        ask_for_time(other)
        clock = ArrivalClock()
        before = clock.arrival_ns([])
        one.sendto(b"x", other.getsockname())
        _, ancillary, _, _ = other.recvmsg(100, ANCILLARY_BYTES)
        assert before - 1_000_000 <= clock.arrival_ns(ancillary) <= clock.arrival_ns([])
        assert ancillary


@linux
def test_what_a_process_has_spent_and_holds() -> None:
    import os

    assert machine.cpu_s(os.getpid()) > 0.01
    assert machine.memory_bytes(os.getpid()) > 10_000_000
    assert machine.others_s() > 0
    assert machine.open_files(os.getpid()) > 3
    assert "Python 3" in machine.machine_name()
    assert len(machine.commit()) >= 7
