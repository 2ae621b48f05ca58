"""The test phone's own SIP: one UDP socket around one agentstream.sip Stack, for whoever runs its own loop.

Contract: after each method what the stack wants sent has been sent, and what happened is returned. ``receive`` is
called when the socket is readable, ``handle_timer`` at ``deadline`` or later. Time is an argument (monotonic seconds).
"""

from __future__ import annotations

import secrets
import socket

import attrs

from agentstream.errors import AgentstreamError, RemoteProtocolError
from agentstream.sip.events import Event, InviteReceived, ReinviteReceived
from agentstream.sip.hop import Hop, Listener
from agentstream.sip.session import Session
from agentstream.sip.stack import Stack
from agentstream.sip.uri import Uri, parse_uri

_LISTENER = "phone"
SIP_PORT = 5060


def token() -> str:
    """An unpredictable word: 64 bits."""
    return secrets.token_hex(8)


def local_address_towards(host: str, port: int) -> str:
    """The address of this machine that packets to the host would carry."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((host, port))
        except OSError as error:
            raise AgentstreamError(
                f"There is no way to {host}: check the address and this machine's network."
            ) from error
        return str(sock.getsockname()[0])


@attrs.frozen
class Target:
    """Whom to call: the URI, and the address that its host stands for."""

    uri: Uri
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``sip:USER@HOST[:PORT]`` and look its host up (IPv4; UDP).

        :raises AgentstreamError: it is no such URI, or the host is not known.
        """
        example = "give one like sip:1000@127.0.0.1:5060"
        try:
            uri = parse_uri(text)
        except RemoteProtocolError as error:
            raise AgentstreamError(f"{text!r} is no SIP URI, {error.sentence}: {example}.") from error
        if uri.scheme != "sip" or not uri.host:
            raise AgentstreamError(f"{text!r} cannot be called: {example}.")
        port = uri.port or SIP_PORT
        try:
            found = socket.getaddrinfo(uri.host, port, socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise AgentstreamError(f"The host {uri.host} is not known: {example}.") from error
        return cls(uri, str(found[0][4][0]), port)


@attrs.define(eq=False)
class SipSocket:
    """A UAC at a port of its own.

    :ivar host: the address that it is bound to and tells others.
    """

    host: str
    sock: socket.socket
    stack: Stack

    @classmethod
    def open(cls, host: str) -> SipSocket:
        """Bind a free port of this address."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.setblocking(False)
        listener = Listener("udp", host, sock.getsockname()[1])
        return cls(host, sock, Stack(token=token, listeners={_LISTENER: listener}, product="agentstream-phone"))

    @property
    def deadline(self) -> float | None:
        """When handle_timer has to be called; None: not at all."""
        return self.stack.next_timer()

    def invite(self, target: Target, sdp: bytes, now: float, caller: str = "phone") -> tuple[Session, list[Event]]:
        """Call; returns the session and what happened at once."""
        session = self.stack.invite(
            target.uri,
            from_uri=Uri("sip", caller, self.host, self.sock.getsockname()[1]),
            to_uri=target.uri,
            sdp=sdp,
            hop=Hop("udp", target.host, target.port, _LISTENER),
            now=now,
        )
        return session, self._drain(now)

    def hang_up(self, session: Session, now: float) -> list[Event]:
        """BYE, or CANCEL before the answer."""
        self.stack.hang_up(session, now)
        return self._drain(now)

    def receive(self, now: float) -> list[Event]:
        """Take every datagram that waits."""
        while True:
            try:
                data, (host, port) = self.sock.recvfrom(65536)
            except BlockingIOError:
                return self._drain(now)
            except OSError:
                continue  # the kernel reports a closed port of the far end; timers tell when it is hopeless
            self.stack.receive(data, Hop("udp", host, port, _LISTENER), now)

    def handle_timer(self, now: float) -> list[Event]:
        """Everything whose time has come."""
        self.stack.handle_timer(now)
        return self._drain(now)

    def _drain(self, now: float) -> list[Event]:
        events: list[Event] = []
        while self.stack.events or self.stack.out:
            while self.stack.events:
                event = self.stack.events.popleft()
                # A test phone takes no calls and no changes.
                if isinstance(event, InviteReceived):
                    self.stack.reject(event.session, 480, now, "this phone only calls")
                elif isinstance(event, ReinviteReceived):
                    self.stack.reject(event.session, 488, now, "this phone changes nothing during a call")
                else:
                    events.append(event)
            while self.stack.out:
                data, hop = self.stack.out.popleft()
                try:
                    self.sock.sendto(data, (hop.host, hop.port))
                except OSError:
                    self.stack.send_failed(hop, now)
        return events

    def close(self) -> None:
        """Let go of the port."""
        self.sock.close()
