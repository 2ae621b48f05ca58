"""The bench's bot, its notes and its report: one connection on loopback, driven by hand."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from rich.console import Console

from agentstream.audio.g711 import ULAW_TO_PCM
from agentstream.cli.bench import frames, machine, tone_codes
from agentstream.cli.bench.analysis import Figures
from agentstream.cli.bench.report import Comparison, Run
from agentstream.cli.bench.sink import Sink
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
    connect(sink, server_end, "/echo?x=1")
    assert orjson.loads(capsysbinary.readouterr().out) == {"kind": "stream_started", "streams": 1}
    text = media(frames.code_of(5, 7), frames.code_of(5, 8))
    server_end.sendall(masked(TEXT, text))
    turn(sink)
    ((opcode, echoed),) = FrameReader().receive(server_end.recv(65536))
    assert opcode == TEXT
    assert orjson.loads(echoed) == {"stream_sid": "s1", **orjson.loads(text)}
    sink.save(str(tmp_path / "sink.npz"))
    with np.load(tmp_path / "sink.npz") as noted:
        is_code, calls, numbers = frames.read_codes(noted["codes"])
        assert numbers[is_code].tolist() == [7, 8] and set(calls[is_code]) == {5}
        assert noted["messages"]["blocks"].tolist() == [4]


@linux
def test_a_probe_speaks_when_it_is_due_and_echoes_nothing(
    sink: Sink, server_end: socket.socket, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    connect(sink, server_end, "/probe")
    server_end.sendall(masked(TEXT, media(frames.code_of(5, 7))))
    turn(sink)
    sink.begin_probes(100.0, 2.0)
    sink.speak_due(100.2)
    assert not sink.written
    sink.speak_due(100.3)
    ((_, text),) = FrameReader().receive(server_end.recv(65536))
    pcm = base64.b64decode(orjson.loads(text)["media"]["payload"])
    assert len(pcm) == 640
    is_code, calls, numbers = frames.read_codes(frames.codes_of_pcm_fields(frames.pcm_code_fields(pcm)))
    assert numbers[is_code].tolist() == [0, 1] and set(calls[is_code]) == {frames.PROBE_CALL}
    for late in range(1, 20):
        sink.speak_due(100.3 + late)
    assert not sink.due and sink.streams


@linux
def test_at_another_rate_it_notes_sound_and_speaks_in_tones(
    sink: Sink, server_end: socket.socket, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sink.rate_hz = 16000
    connect(sink, server_end, "/probe")
    pcm = np.concatenate([tone_codes.pcm_of(5, frame, 16000) for frame in (7, 8)]).tobytes()
    text = orjson.dumps({"event": "media", "media": {"payload": base64.b64encode(pcm).decode()}})
    server_end.sendall(masked(TEXT, text))
    turn(sink)
    sink.begin_probes(100.0, 2.0)
    sink.speak_due(100.3)
    ((_, said),) = FrameReader().receive(server_end.recv(65536))
    assert base64.b64decode(orjson.loads(said)["media"]["payload"]) == b"".join(
        tone_codes.pcm_of(frames.PROBE_CALL, frame, 16000).tobytes() for frame in (0, 1)
    )
    sink.save(str(tmp_path / "sink.npz"))
    with np.load(tmp_path / "sink.npz") as noted:
        assert noted["messages"]["blocks"].tolist() == [4] and len(noted["codes"]) == 0
        is_code, calls, numbers = frames.read_codes(tone_codes.read_streams(np.zeros(4), noted["sound"]))
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
    assert "Python 3" in machine.machine_name()


def test_what_was_not_measured_is_null_and_a_loss_is_not_clean() -> None:
    none = np.empty(0)
    figures = Figures(100, 1, 0, 0, 0, none, none, none, none)
    run = Run("m", "p", 1, 1, 5.0, 100, 0.1, 0.01, 0.2, float("nan"), 2.0, 3.0, 4.0, figures)
    assert "eight bytes" in run.as_json()["frames_checked_by"]
    said = run.as_json()
    assert said["tick_p99_ms"] is None and said["bot_to_rtp_p95_ms"] is None
    assert said["frames_lost"] == 1 and not run.is_clean
    assert orjson.loads(orjson.dumps(said)) == said


def test_rates_are_compared_with_the_first_one() -> None:
    none = np.empty(0)
    figures = Figures(100, 0, 0, 0, 0, none, none, none, none)
    cpu = [(8000, 0.10), (16000, 0.14), (8000, 0.12), (16000, 0.18)]
    runs = [
        Run("m", "p", 1, 1, 5.0, 100, percent, 0.01, 0.2, 1.0, float(at), 3.0, 4.0, figures, rate_hz)
        for at, (rate_hz, percent) in enumerate(cpu)
    ]
    said = Comparison(tuple(runs)).as_json()
    assert [run["rate_hz"] for run in said["runs"]] == [8000, 16000, 8000, 16000]
    assert "tones" in said["runs"][1]["frames_checked_by"]
    assert said["rates"] == [
        {
            "rate_hz": 8000,
            "cpu_percent_per_call": [0.1, 0.12],
            "mean": 0.11,
            "more_than_first": 0.0,
            "ratio_to_first": 1.0,
            "others_percent": [0.0, 2.0],
        },
        {
            "rate_hz": 16000,
            "cpu_percent_per_call": [0.14, 0.18],
            "mean": 0.16,
            "more_than_first": 0.05,
            "ratio_to_first": 1.455,
            "others_percent": [1.0, 3.0],
        },
    ]
    console = Console(width=160, record=True, quiet=True)
    Comparison(tuple(runs)).show(console)
    assert Comparison(tuple(runs)).is_clean
