"""/metrics, /healthz and /readyz of a whole server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.protocol import ClientFactory, Factory, Protocol

from agentstream.errors import StartError
from agentstream.testing.bots import Echo, Session
from agentstream.testing.phone import speech
from agentstream.testing.server import ServerUnderTest
from tests.server.kit import bot_flow, pcm

HTTP = {"http": {"listen": "tcp:8080:interface=127.0.0.1"}}
PIECE = pcm(speech(500))
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


class Client(Protocol):
    """Sends one request and keeps what comes."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.got = b""

    def connectionMade(self) -> None:
        self.transport.write(self.request)

    def dataReceived(self, data: bytes) -> None:
        self.got += data


def get(server: ServerUnderTest, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    client = Client(request)
    server.reactor.connectTCP("127.0.0.1", 8080, ClientFactory.forProtocol(lambda: client))
    server.advance(0.2)
    head, _, body = client.got.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def metrics(server: ServerUnderTest) -> dict[str, Any]:
    """Every sample by its name and its labels other than the node: ``name`` or ``name{a=b}``."""
    status, page = get(server, "/metrics")
    assert status == 200
    samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            assert sample.labels.pop("node") == "test"
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return samples


def test_what_happens_is_counted_where_it_happens(tmp_path: Path) -> None:
    config = {**HTTP, "recording": {"folder": str(tmp_path)}, "route": [{"to": "1000", "flow": "main"}]}
    with ServerUnderTest(bot_flow(record=True), config) as server:
        server.bot(Echo)
        before = metrics(server)
        assert before["agentstream_calls"] == before["agentstream_calls_started_total"] == 0
        phone = server.call()
        phone.say(speech(1000))
        server.advance(2)
        during = metrics(server)
        assert during["agentstream_calls"] == during["agentstream_legs"] == during["agentstream_streams"] == 1
        assert during["agentstream_recordings"] == 1
        assert during["agentstream_rtp_received_total"] == 50
        assert during["agentstream_sip_requests_received_total{method=INVITE}"] == 1
        assert during["agentstream_sip_responses_sent_total{method=INVITE,status=200}"] == 1
        assert 0.02 <= during["agentstream_playout_delay_most_seconds"] <= 0.4
        phone.hang_up()
        stranger = server.phone()
        stranger.dial("2000")
        server.advance(1)
        after = metrics(server)
        sent = len(phone.arrivals)
        plane = server.service.plane
    assert after["agentstream_calls"] == after["agentstream_streams"] == after["agentstream_recordings"] == 0
    assert after["agentstream_calls_ended_total{by=user}"] == 1
    assert after["agentstream_calls_refused_total{status=404}"] == 1
    assert after["agentstream_streams_ended_total{clean=true}"] == 1
    assert after["agentstream_rtp_received_total"] == 50
    assert after["agentstream_rtp_sent_total"] == sent
    assert after["agentstream_stream_bytes_received_total"] == after["agentstream_stream_media_received_total"] * 1600
    assert after["agentstream_recordings_started_total"] == 1
    assert 100 < after["agentstream_tick_duration_seconds_count"] <= plane.tick_duration.count
    assert (
        after["agentstream_tick_lateness_seconds_bucket{le=+Inf}"] == after["agentstream_tick_lateness_seconds_count"]
    )
    assert all(value >= before.get(name, 0) for name, value in after.items() if name.endswith("_total"))


def test_ready_until_it_drains(tmp_path: Path) -> None:
    with ServerUnderTest(bot_flow(), HTTP) as server:
        server.bot(Echo)
        server.call()
        assert get(server, "/healthz") == get(server, "/readyz") == (200, "ok\n")
        assert get(server, "/elsewhere")[0] == 404
        assert get(server, "/metrics", "POST")[0] == 405
        server.begin_stop()
        assert get(server, "/readyz") == (503, "the node drains\n")
        assert get(server, "/healthz") == (200, "ok\n")
        assert metrics(server)["agentstream_draining"] == 1


def test_not_ready_while_the_tick_is_late() -> None:
    with ServerUnderTest(bot_flow(), HTTP) as server:
        server.service.plane._late_in_a_row = 50
        status, reason = get(server, "/readyz")
        assert (status, reason) == (503, "the media tick runs late\n")


def test_off_unless_it_is_set() -> None:
    with ServerUnderTest(bot_flow()) as server:
        assert server.service._http is None


def test_a_port_that_is_taken_is_one_sentence() -> None:
    server = ServerUnderTest(bot_flow(), HTTP)
    taken = server.reactor.listenTCP(8080, Factory(), interface="127.0.0.1")
    try:
        with pytest.raises(
            StartError, match=r"HTTP cannot be served on tcp:8080:interface=127.0.0.1 \(.*\): set \[http\]"
        ):
            server.start()
    finally:
        taken.stopListening()


def test_a_page_is_gathered_in_slices() -> None:
    """Many legs are looked at in more than one pass of the reactor, and each is counted once."""
    with ServerUnderTest(bot_flow(), {**HTTP, "media": {"max_calls": 60}}) as server:
        plane = server.service.plane
        legs = [plane.open_leg() for _ in range(50)]
        before = len(list(server.service._metrics.gather()))
        slices = server.service._metrics.gather()
        assert next(slices) is None
        for leg in legs:
            leg.close()
        *_, gathered = slices
        assert before == 4
        assert gathered is not None and gathered.playout_s == [0.06] * 50
        assert len(gathered.totals.counts) == len(plane.ended.counts)


def test_every_metric_is_documented() -> None:
    """docs/operating.md has a row for each, and no other."""
    with ServerUnderTest(bot_flow(), HTTP) as server:
        _, page = get(server, "/metrics")
    told = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)) | {"agentstream_gc_pause_seconds"}
    documented = set(re.findall(r"^\| `(agentstream_\w+)", OPERATING.read_text(), re.MULTILINE))
    assert told == documented


def test_what_sound_waits_for_is_measured_at_the_wire() -> None:
    """A bot that answers out of silence: from its message to the packet; and what was queued when a message came."""

    class Twice(Session):
        """Says half a second, and again half a second while the first is still played."""

        def on_start(self, start: dict[str, Any]) -> None:
            self.say(PIECE)
            self.say(PIECE)

    with ServerUnderTest(bot_flow(), {**HTTP, "media": {"playout_ms": 60, "playout_min_ms": 60}}) as server:
        server.bot(Twice)
        phone = server.call()
        phone.say(speech(1000))
        server.advance(2)
        during = metrics(server)
        phone.hang_up()
        server.advance(1)
        [ended], [leg_ended] = server.events("stream_ended"), server.events("leg_ended")
        started = server.events("stream_started")[0].at
        first = next(arrival.at for arrival in phone.arrivals if set(arrival.packet.payload) != {0xFF})
        after = metrics(server)
    # One message met an empty queue, the other 500 ms of sound.
    assert during["agentstream_bot_to_wire_seconds_count"] == after["agentstream_bot_to_wire_seconds_count"] == 1
    waited = after["agentstream_bot_to_wire_seconds_sum"]
    assert ended.fields["to_wire_most_ms"] == round(waited * 1000, 1)
    assert 0 <= waited <= min(0.021, first - started + 0.001)
    assert (ended.fields["queued_p50_ms"], ended.fields["queued_most_ms"]) == (10, 500)
    # Ten chunks of 100 ms with speech at their end, each packet of which waited as long; the bar of 0.06 is its bin's.
    counted = during["agentstream_caller_to_bot_seconds_count"]
    assert counted == after["agentstream_caller_to_bot_seconds_count"] == 10
    assert after["agentstream_caller_to_bot_seconds_bucket{le=0.05}"] == 0
    assert after["agentstream_caller_to_bot_seconds_bucket{le=0.08}"] == 10
    assert after["agentstream_caller_to_bot_seconds_sum"] == pytest.approx(0.6, abs=0.01)
    for where, name in ((leg_ended, "rtp_to_bot"), (ended, "from_caller")):
        assert where.fields[f"{name}_p50_ms"] in (60, 80)
        assert where.fields[f"{name}_p95_ms"] in (60, 80)
    # 50 packets: the first sets the time of the others, each of which waited for its turn as long as the delay says.
    assert during["agentstream_playout_wait_seconds_count"] == after["agentstream_playout_wait_seconds_count"] == 49
    assert leg_ended.fields["rtp_waited_p50_ms"] == leg_ended.fields["rtp_playout_ms"] == 60
    assert after["agentstream_playout_wait_seconds_bucket{le=0.06}"] == 49
    assert after["agentstream_playout_wait_seconds_bucket{le=0.04}"] == 0


def test_a_clear_before_the_first_packet_is_no_measurement() -> None:
    class Undecided(Session):
        def on_start(self, start: dict[str, Any]) -> None:
            self.say(PIECE)
            self.clear()

    with ServerUnderTest(bot_flow()) as server:
        server.bot(Undecided)
        phone = server.call()
        server.advance(1)
        phone.hang_up()
        server.advance(1)
        [ended] = server.events("stream_ended")
    assert "to_wire_p50_ms" not in ended.fields
    assert ended.fields["queued_most_ms"] == 0


def test_what_the_network_refuses_is_counted_and_the_page_is_still_there() -> None:
    with ServerUnderTest(bot_flow(), {**HTTP, "route": [{"to": "1000", "flow": "main"}]}) as server:
        server.service.edge.stack.counters["send failed"] += 2
        assert metrics(server)["agentstream_sip_unsent_total"] == 2
