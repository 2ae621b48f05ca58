"""Packets as they were on the wire: tcpdump on the loopback interface, and readers with no code of the server's."""

from __future__ import annotations

import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import pytest

from tests.interop.peers.programs import Program, require

Address = tuple[str, int]

_SENTINEL = b"the capture ends here"


@attrs.frozen
class Datagram:
    """One captured UDP datagram; ``time_s`` is the capture's clock (seconds since 1970)."""

    time_s: float
    source: Address
    destination: Address
    payload: bytes


@attrs.frozen
class RtpPacket:
    """One captured RTP packet (RFC 3550 section 5.1)."""

    time_s: float
    source: Address
    destination: Address
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class Capture:
    """tcpdump on ``lo`` for UDP to or from a range of ports, as a context manager."""

    def __init__(self, folder: Path, first_port: int, last_port: int) -> None:
        self.path = folder / f"capture-{first_port}-{time.monotonic_ns()}.pcap"
        self._folder = folder
        self._ports = (first_port, last_port)
        self._is_stopped = False

    def __enter__(self) -> Self:
        require(root=True)
        self._sentinel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sentinel.bind(("127.0.0.1", 0))
        wanted = f"udp and (portrange {self._ports[0]}-{self._ports[1]} or port {self._sentinel.getsockname()[1]})"
        # -Z root: Debian's tcpdump else drops its rights and may not write into a test's folder.
        self._program = Program(
            "tcpdump",
            [
                "tcpdump",
                "-i",
                "lo",
                "-n",
                "-U",
                "--immediate-mode",
                "-B",
                "16384",
                "-Z",
                "root",
                "-w",
                self.path,
                wanted,
            ],
            cwd=self._folder,
        )
        self._program.wait_for("listening on", within_s=10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if not self._is_stopped:
            self._program.end(by=signal.SIGINT)
            self._sentinel.close()

    def datagrams(self) -> list[Datagram]:
        """End the capture and read it. What was sent before this call is in it."""
        address = self._sentinel.getsockname()
        self._sentinel.sendto(_SENTINEL, address)
        wait = threading.Event()
        deadline = time.monotonic() + 10
        while not self.path.read_bytes().endswith(_SENTINEL):
            if time.monotonic() > deadline:
                pytest.fail("tcpdump did not write the last packet within 10 s")
            self._sentinel.sendto(_SENTINEL, address)
            wait.wait(0.02)
        self._program.end(by=signal.SIGINT)
        self._sentinel.close()
        self._is_stopped = True
        dropped = re.search(r"(\d+) packets dropped by kernel", self._program.output)
        assert dropped is not None and dropped[1] == "0", self._program.output
        return [datagram for datagram in read_pcap(self.path) if datagram.destination != address]


def read_pcap(path: Path) -> Iterator[Datagram]:
    """Each whole UDP datagram over IPv4 of a pcap file (Ethernet, Linux cooked, raw or BSD loopback link types)."""
    data = path.read_bytes()
    for order in "<", ">":
        (magic,) = struct.unpack_from(f"{order}I", data)
        if magic in (0xA1B2C3D4, 0xA1B23C4D):
            break
    else:
        raise ValueError("not a pcap file")
    fraction_s = 1e-6 if magic == 0xA1B2C3D4 else 1e-9
    (link_type,) = struct.unpack_from(f"{order}I", data, 20)
    header_length = {0: 4, 1: 14, 101: 0, 113: 16, 276: 20}[link_type & 0xFFFF]
    position = 24
    while position + 16 <= len(data):
        seconds, fraction, stored, _ = struct.unpack_from(f"{order}IIII", data, position)
        position += 16
        packet = data[position + header_length : position + stored]
        position += stored
        if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_UDP:
            continue
        header = 4 * (packet[0] & 15)
        source_port, destination_port, length, _ = struct.unpack_from("!HHHH", packet, header)
        if struct.unpack_from("!H", packet, 6)[0] & 0x3FFF or len(packet) < header + length:
            continue
        yield Datagram(
            time_s=seconds + fraction * fraction_s,
            source=(socket.inet_ntoa(packet[12:16]), source_port),
            destination=(socket.inet_ntoa(packet[16:20]), destination_port),
            payload=packet[header + 8 : header + length],
        )


def rtp_packets(datagrams: Iterable[Datagram]) -> Iterator[RtpPacket]:
    """Each RTP packet among the datagrams; RTCP (packet types 192 to 223, RFC 5761 section 4) is left out."""
    for datagram in datagrams:
        payload = datagram.payload
        if len(payload) < 12 or payload[0] >> 6 != 2 or 192 <= payload[1] <= 223:
            continue
        first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", payload)
        start = 12 + 4 * (first & 15)
        if first & 0x10:
            start += 4 + 4 * struct.unpack_from("!H", payload, start + 2)[0]
        end = len(payload) - (payload[-1] if first & 0x20 else 0)
        yield RtpPacket(
            time_s=datagram.time_s,
            source=datagram.source,
            destination=datagram.destination,
            payload_type=second & 0x7F,
            marker=bool(second & 0x80),
            sequence=sequence,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=payload[start:end],
        )


@attrs.frozen
class Stream:
    """The packets of one SSRC from one address to another, in the order of their extended sequence numbers."""

    packets: tuple[RtpPacket, ...]

    @property
    def source(self) -> Address:
        return self.packets[0].source

    @property
    def destination(self) -> Address:
        return self.packets[0].destination

    @property
    def missing(self) -> int:
        """Sequence numbers between the first and the last packet that were not seen."""
        span = _ahead(self.packets[0].sequence, self.packets[-1].sequence, 16) + 1
        # A stream longer than 65,536 packets (22 minutes) is none of ours.
        return span - len({packet.sequence for packet in self.packets})

    def audio(self, *payload_types: int) -> list[RtpPacket]:
        """The packets of these payload types."""
        return [packet for packet in self.packets if packet.payload_type in payload_types]


def _ahead(first: int, second: int, bits: int) -> int:
    """How far the second serial number is ahead of the first."""
    half = 1 << (bits - 1)
    return ((second - first + half) & ((1 << bits) - 1)) - half


def streams(packets: Iterable[RtpPacket]) -> list[Stream]:
    """The streams of a capture, in the order of their first packets."""
    groups: dict[tuple[Address, Address, int], list[RtpPacket]] = {}
    for packet in packets:
        groups.setdefault((packet.source, packet.destination, packet.ssrc), []).append(packet)
    found: list[Stream] = []
    for group in groups.values():
        origin = group[0].sequence
        found.append(Stream(tuple(sorted(group, key=lambda packet: _ahead(origin, packet.sequence, 16)))))
    return found


@attrs.frozen
class SharkStream:
    """One line of tshark's own analysis of RTP streams."""

    source_port: int
    destination_port: int
    packets: int
    lost: int
    max_delta_ms: float


_SHARK_LINE = re.compile(
    r"^ *[\d.]+ +[\d.]+ +[\d.]+ +(\d+) +[\d.]+ +(\d+) +0x[0-9A-F]+ +\S.*? +(\d+) +(-?\d+) \([\d.-]+%\)"
    r" +[\d.]+ +[\d.]+ +([\d.]+) ",
    re.MULTILINE,
)


def tshark_streams(path: Path, first_port: int, last_port: int) -> list[SharkStream]:
    """What tshark finds in the capture: a second opinion on losses, by a program that knows none of this code."""
    ports = f"udp.port=={first_port}-{last_port},rtp"
    shown = subprocess.run(
        ["tshark", "-r", path, "-d", ports, "-q", "-z", "rtp,streams"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    return [
        SharkStream(int(source), int(destination), int(packets), int(lost), float(delta))
        for source, destination, packets, lost, delta in _SHARK_LINE.findall(shown)
    ]


@attrs.frozen
class SharkControl:
    """One RTCP datagram as tshark reads it.

    :ivar types: the packet types in it, in order. :ivar is_sound: each length is right and nothing is malformed.
    :ivar lost: the cumulative losses of its report blocks.
    """

    source_port: int
    destination_port: int
    types: tuple[int, ...]
    is_sound: bool
    lost: tuple[int, ...]


def tshark_rtcp(path: Path, first_port: int, last_port: int) -> list[SharkControl]:
    """What ``tshark -Y rtcp`` shows of the datagrams that left these ports or went to them."""
    fields = "udp.srcport", "udp.dstport", "rtcp.pt", "rtcp.length_check", "_ws.malformed", "rtcp.ssrc.cum_nr"
    wanted = f"rtcp && udp.port >= {first_port} && udp.port <= {last_port}"
    # First what a datagram looks like, and then what its port is known for: any free port may be known for something.
    heuristics = "-o", "udp.try_heuristic_first:TRUE", "--enable-heuristic", "rtp_udp", "--enable-heuristic", "rtcp_udp"
    shown = subprocess.run(
        [
            *("tshark", "-r", path, *heuristics),
            *("-Y", wanted, "-T", "fields", *(part for field in fields for part in ("-e", field))),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    found = []
    for line in shown.splitlines():
        source, destination, types, checks, malformed, lost = line.split("\t")
        is_sound = not malformed and all(check in ("1", "True") for check in checks.split(","))
        found.append(
            SharkControl(
                int(source),
                int(destination),
                tuple(int(kind) for kind in types.split(",")),
                is_sound,
                tuple(int(number) for number in lost.split(",") if number),
            )
        )
    return found


def write_rtp_pcap(path: Path, payloads: Iterable[bytes], *, payload_type: int, samples: int = 160) -> None:
    """A pcap for SIPp's play_pcap_audio: one RTP packet every ``samples`` / 8000 seconds, in Ethernet frames."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, payload in enumerate(payloads):
            timestamp = number * samples
            rtp = struct.pack(
                "!BBHII", 0x80, payload_type | (0x80 if number == 0 else 0), number, timestamp, 0x5EEDCA11
            )
            udp = struct.pack("!HHHH", 7000, 7002, 20 + len(payload), 0) + rtp + payload
            ip = struct.pack(
                "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1"
            )
            frame = bytes(12) + b"\x08\0" + ip + udp
            seconds, microseconds = divmod(timestamp * 125, 1_000_000)
            file.write(struct.pack("<IIII", seconds, microseconds, len(frame), len(frame)) + frame)
