"""The bench's callers that say nothing: INVITE, and at once behind its 200 ACK and BYE.

Run as a process: ``python -m agentstream.cli.bench.sip_load SIP_PORT``. It takes orders and gives news
(agentstream.cli.bench.control):

- ``rate`` (user, per_second, seconds): calls come at this rate; ``rated`` with a tally when the last is over;
- ``finish``: end.

Messages are templates and answers are read with four searches: neither is what is measured, nor is it the server's own
code. Sent again is what RFC 3261 section 17.1 says (timers A and E); a clean network needs none of it, so that is
counted, and so are answers that the server gives twice.
"""

from __future__ import annotations

import heapq
import re
import select
import socket
import sys
import time
from collections import Counter
from typing import Any

import attrs

from agentstream.cli.bench.callers import open_pair
from agentstream.cli.bench.control import Orders, tell

HOST = "127.0.0.1"
T1_S, T2_S = 0.5, 4.0
GIVEN_UP_S = 64 * T1_S

_REQUEST = (
    "{method} {uri} SIP/2.0\r\n"
    "Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{branch};rport\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:caller@{host}:{port}>;tag=f{number}\r\n"
    "To: <sip:{user}@{host}:{target}>{to_tag}\r\n"
    "Call-ID: {number}@{run}\r\n"
    "CSeq: {cseq} {method}\r\n"
    "Contact: <sip:caller@{host}:{port}>\r\n"
    "{more}Content-Length: {length}\r\n\r\n{body}"
)
_OFFER = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)
_CALL_ID = re.compile(rb"\r\nCall-ID: (\d+)@")
_CSEQ = re.compile(rb"\r\nCSeq: \d+ (\w+)")
_TO_TAG = re.compile(rb"\r\nTo: [^\r]*(;tag=[^;\r]+)")
_CONTACT = re.compile(rb"\r\nContact: <([^>]+)>")


@attrs.define(eq=False)
class Caller:
    """One call.

    :ivar waits_for: the method whose final answer is awaited. :ivar sent: what is sent again until it is there.
    :ivar ack: sent for each 200 of the INVITE.
    """

    number: int
    invited_s: float
    sent: bytes
    waits_for: bytes = b"INVITE"
    ack: bytes = b""


@attrs.define(eq=False)
class Load:
    """All calls, at one UDP port.

    :ivar repeated: messages of ours that were sent again, and answers that came again.
    """

    sock: socket.socket
    target: int
    media_port: int
    user: str = "answer"
    run: str = attrs.field(factory=lambda: f"{time.monotonic_ns():x}")
    callers: dict[int, Caller] = attrs.field(factory=dict)
    setup_ms: list[float] = attrs.field(factory=list)
    refused: Counter[str] = attrs.field(factory=Counter)
    placed: int = 0
    repeated: int = 0
    unanswered: int = 0
    latest_s: float = 0.0
    _again: list[tuple[float, int, bytes, float]] = attrs.field(factory=list)

    def request(self, number: int, method: str, uri: str, to_tag: str = "", body: str = "") -> bytes:
        """One message; an ACK of a 2xx has a branch of its own (RFC 3261 section 17.1.1.3)."""
        text = _REQUEST.format(
            method=method,
            uri=uri,
            host=HOST,
            port=self.sock.getsockname()[1],
            branch=f"{self.run}{number}{method}",
            number=number,
            run=self.run,
            user=self.user,
            target=self.target,
            to_tag=to_tag,
            cseq=2 if method == "BYE" else 1,
            more="Content-Type: application/sdp\r\n" if body else "",
            length=len(body),
            body=body,
        )
        return text.encode()

    def send(self, data: bytes) -> None:
        self.sock.sendto(data, (HOST, self.target))

    def send_again(self, caller: Caller, now: float, after_s: float = T1_S) -> None:
        """Have what was just sent be sent again, unless its answer comes."""
        heapq.heappush(self._again, (now + after_s, caller.number, caller.waits_for, after_s))

    def place(self, now: float) -> None:
        """One more call."""
        number = self.placed
        self.placed += 1
        offer = _OFFER.format(host=HOST, port=self.media_port)
        data = self.request(number, "INVITE", f"sip:{self.user}@{HOST}:{self.target}", body=offer)
        self.callers[number] = caller = Caller(number, time.monotonic(), data)
        self.send(data)
        self.send_again(caller, now)

    def hear(self) -> None:
        """Take every answer that waits."""
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            self.take(data, time.monotonic())

    def take(self, data: bytes, now: float) -> None:
        """One answer."""
        call_id, cseq = _CALL_ID.search(data), _CSEQ.search(data)
        if not data.startswith(b"SIP/2.0 ") or call_id is None or cseq is None:
            return
        status, method = int(data[8:11]), cseq[1]
        caller = self.callers.get(int(call_id[1]))
        if status < 200:
            return
        if caller is None or method != caller.waits_for:
            self.repeated += 1
            if caller is not None and caller.ack and method == b"INVITE":
                self.send(caller.ack)
            return
        if method == b"BYE" or status >= 300:
            self.over(caller, status, data)
        else:
            self.answered(caller, data, now)

    def answered(self, caller: Caller, data: bytes, now: float) -> None:
        """The 200 of the INVITE: ACK and BYE."""
        self.setup_ms.append(1000 * (now - caller.invited_s))
        tag, contact = _TO_TAG.search(data), _CONTACT.search(data)
        assert tag is not None and contact is not None, data
        uri, to_tag = contact[1].decode(), tag[1].decode()
        caller.ack = self.request(caller.number, "ACK", uri, to_tag)
        caller.sent = self.request(caller.number, "BYE", uri, to_tag)
        caller.waits_for = b"BYE"
        self.send(caller.ack)
        self.send(caller.sent)
        self.send_again(caller, now)

    def over(self, caller: Caller, status: int, data: bytes) -> None:
        """A BYE that was answered, or an INVITE that was refused, whose ACK has the INVITE's branch."""
        if status >= 300:
            self.refused[str(status)] += 1
        if caller.waits_for == b"INVITE":
            tag = _TO_TAG.search(data)
            ack = self.request(
                caller.number, "ACK", f"sip:{self.user}@{HOST}:{self.target}", tag[1].decode() if tag else ""
            )
            self.send(ack.replace(b"ACK;rport", b"INVITE;rport", 1))
        del self.callers[caller.number]

    def repeat_due(self, now: float) -> None:
        """What has waited for its answer for too long."""
        while self._again and self._again[0][0] <= now:
            _, number, method, after_s = heapq.heappop(self._again)
            caller = self.callers.get(number)
            if caller is None or caller.waits_for != method:
                continue
            if now - caller.invited_s > GIVEN_UP_S:
                self.unanswered += 1
                del self.callers[number]
                continue
            self.repeated += 1
            self.send(caller.sent)
            # Timer A doubles without end, timer E up to T2.
            self.send_again(caller, now, 2 * after_s if method == b"INVITE" else min(2 * after_s, T2_S))

    def tally(self) -> dict[str, Any]:
        """What has become of all calls."""
        return {
            "placed": self.placed,
            "setup_ms": self.setup_ms,
            "refused": dict(self.refused),
            "repeated": self.repeated,
            "unanswered": self.unanswered,
            "latest_ms": 1000 * self.latest_s,
        }


@attrs.define
class Pace:
    """When calls are due: one every so often from ``began_s`` to ``ends_s``."""

    began_s: float
    every_s: float
    count: int
    placed: int = 0

    @property
    def next_s(self) -> float | None:
        """When the next one is; None: all were placed."""
        return self.began_s + self.placed * self.every_s if self.placed < self.count else None


def run(target: int) -> None:
    """Call until the order to finish, or until nobody is there to give it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    media = open_pair(HOST)  # where the server's sound goes, which nobody reads
    load, orders = Load(sock, target, media[0].getsockname()[1]), Orders()
    pace: Pace | None = None
    poller = select.epoll()
    for fd in (sock.fileno(), 0):
        poller.register(fd, select.EPOLLIN)
    tell("ready")
    while not orders.is_over:
        due = pace.next_s if pace is not None else None
        wait_s = 0.05 if due is None else max(0.0, due - time.monotonic())
        found = {fd for fd, _ in poller.poll(min(0.05, wait_s))}
        if sock.fileno() in found:
            load.hear()
        now = time.monotonic()
        if pace is not None:
            while (due := pace.next_s) is not None and due <= now:
                load.latest_s = max(load.latest_s, now - due)
                load.place(now)
                pace.placed += 1
        load.repeat_due(now)
        if pace is not None and pace.next_s is None and not load.callers:
            pace = None
            tell("rated", **load.tally())
        for order in orders.poll() if 0 in found else ():
            if order["kind"] == "finish":
                return
            load.user = order["user"]
            pace = Pace(now, 1 / order["per_second"], round(order["per_second"] * order["seconds"]))


if __name__ == "__main__":
    run(int(sys.argv[1]))
