"""A small SIP peer for tests: plain text templates, one call at a time, not a line shared with agentstream.sip.

It is sans-IO: it makes the bytes that a phone sends and reads those that a phone gets; the test carries them and
keeps the time. It repeats nothing by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import re

import attrs

OFFER = (
    b"v=0\r\no=peer 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n"
)

_numbers = itertools.count(1)


@attrs.frozen
class Received:
    """A message as the peer reads it.

    :ivar first: the start line. :ivar fields: (lower-case name, value) in order.
    """

    first: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def status(self) -> int:
        """A response's status; 0 for a request."""
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """A request's method, or that of the request which is answered."""
        return self.header("cseq").split()[1] if self.status else self.first.split()[0]

    def header(self, name: str) -> str:
        """The first header of that name; "" where there is none."""
        return next((value for have, value in self.fields if have == name.lower()), "")

    def headers(self, name: str) -> list[str]:
        """All headers of that name."""
        return [value for have, value in self.fields if have == name.lower()]


def read(data: bytes) -> Received:
    """Take a message apart; a ValueError is a failure of the test."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    pairs = [line.split(":", 1) for line in lines[1:]]
    return Received(lines[0], tuple((name.strip().lower(), value.strip()) for name, value in pairs), body)


def authorization(challenges: list[str], user: str, password: str, method: str, uri: str, count: int = 1) -> str:
    """The Authorization value that answers the first of these WWW-Authenticate values (RFC 7616, qop auth)."""
    challenge = dict(re.findall(r'(\w+)="?([^",]*)"?', challenges[0].partition(" ")[2]))
    algorithm = challenge.get("algorithm", "MD5")
    apply = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm]

    def digest(*words: str) -> str:
        return apply(":".join(words).encode()).hexdigest()

    realm, nonce, cnonce = challenge["realm"], challenge["nonce"], f"peer{next(_numbers)}"
    proof = (nonce, f"{count:08x}", cnonce, "auth")
    response = digest(digest(user, realm, password), *proof, digest(method, uri))
    return (
        f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{response}",'
        f' algorithm={algorithm}, qop=auth, nc={count:08x}, cnonce="{cnonce}"'
    )


def tag_of(value: str) -> str:
    """The tag of a From or To value; "" where there is none."""
    return value.partition(";tag=")[2].partition(";")[0]


@attrs.define
class SipPeer:
    """One phone with one call.

    :ivar host: its address in Via, Contact and SDP. :ivar target: the host and port that its Request-URIs name.
    """

    host: str = "127.0.0.1"
    port: int = 5090
    user: str = "alice"
    target: str = "127.0.0.1:5060"
    call_id: str = attrs.field(factory=lambda: f"call-{next(_numbers)}@peer")
    local_tag: str = attrs.field(factory=lambda: f"peer{next(_numbers)}")
    remote_tag: str = ""
    remote_uri: str = ""
    cseq: int = 0
    called: str = "1000"
    branch: str = ""
    routes: list[str] = attrs.field(factory=list)
    invite_cseq: int = 0

    def contact(self) -> str:
        return f"<sip:{self.user}@{self.host}:{self.port}>"

    def request(
        self,
        method: str,
        *,
        headers: str = "",
        body: bytes = b"",
        branch: str = "",
        cseq: int | None = None,
        uri: str = "",
        content_type: str = "application/sdp",
    ) -> bytes:
        """Any request of the call; ``headers`` are whole lines with CRLF."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        branch = branch or f"z9hG4bKpeer{next(_numbers)}"
        if method not in ("ACK", "CANCEL"):
            self.branch = branch
        to = f"<sip:{self.called}@{self.target}>" + (f";tag={self.remote_tag}" if self.remote_tag else "")
        lines = [
            f"{method} {uri or self.remote_uri or f'sip:{self.called}@{self.target}'} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch};rport",
            *(f"Route: {route}" for route in self.routes),
            f"From: <sip:{self.user}@{self.host}>;tag={self.local_tag}",
            f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: {self.contact()}",
            "Max-Forwards: 70",
        ]
        if body:
            lines.append(f"Content-Type: {content_type}")
        return ("\r\n".join(lines) + f"\r\n{headers}Content-Length: {len(body)}\r\n\r\n").encode() + body

    def invite(self, sdp: bytes = OFFER, headers: str = "", **more: str) -> bytes:
        """INVITE, or re-INVITE inside the call."""
        data = self.request("INVITE", headers=headers, body=sdp, **more)  # type: ignore[arg-type]
        self.invite_cseq = self.cseq
        return data

    def take(self, data: bytes) -> Received:
        """Read a response of the call, and learn the remote tag, target and routes from it."""
        response = read(data)
        tag = tag_of(response.header("to"))
        if tag and response.method == "INVITE" and 100 < response.status < 300:
            self.remote_tag = tag
            contact = response.header("contact")
            if contact:
                self.remote_uri = contact.partition("<")[2].partition(">")[0]
            self.routes = response.headers("record-route")[::-1]
        return response

    def ack(self, sdp: bytes = b"") -> bytes:
        """ACK of a 2xx."""
        return self.request("ACK", cseq=self.invite_cseq, body=sdp)

    def ack_refusal(self, response: bytes) -> bytes:
        """ACK of a refusal: in the INVITE's transaction, with the refusal's To."""
        to = read(response).header("to")
        line = f"To: <sip:{self.called}@{self.target}>"
        data = self.request("ACK", cseq=self.invite_cseq, branch=self.branch).decode()
        start = data.index("To: ")
        assert data[start:].startswith(line)
        return (data[:start] + f"To: {to}" + data[data.index("\r\n", start) :]).encode()

    def cancel(self, headers: str = "") -> bytes:
        """CANCEL of the last INVITE."""
        return self.request("CANCEL", cseq=self.invite_cseq, branch=self.branch, headers=headers)

    def bye(self, headers: str = "") -> bytes:
        """BYE of the call."""
        return self.request("BYE", headers=headers)

    def options(self) -> bytes:
        """OPTIONS outside the call."""
        return SipPeer(self.host, self.port, self.user, self.target).request("OPTIONS")

    def respond(self, request: bytes, status: int, phrase: str = "OK", sdp: bytes = b"", headers: str = "") -> bytes:
        """A response to a request that was received; everything but a 100 carries the peer's tag."""
        received = read(request)
        to = received.header("to")
        if status > 100 and "tag=" not in to:
            to += f";tag={self.local_tag}"
        lines = [f"SIP/2.0 {status} {phrase}"]
        lines += [f"Via: {via}" for via in received.headers("via")]
        lines += [f"Record-Route: {route}" for route in received.headers("record-route")]
        lines += [
            f"From: {received.header('from')}",
            f"To: {to}",
            f"Call-ID: {received.header('call-id')}",
            f"CSeq: {received.header('cseq')}",
            f"Contact: {self.contact()}",
        ]
        if sdp:
            lines.append("Content-Type: application/sdp")
        return ("\r\n".join(lines) + f"\r\n{headers}Content-Length: {len(sdp)}\r\n\r\n").encode() + sdp

    def called_by(self, invite: bytes) -> None:
        """Take the tags and the target of an INVITE that was received, to send requests inside its call."""
        received = read(invite)
        self.call_id = received.header("call-id")
        self.remote_tag = tag_of(received.header("from"))
        self.remote_uri = received.header("contact").partition("<")[2].partition(">")[0]
        self.cseq = 100
