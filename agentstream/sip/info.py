"""Digits in INFO (RFC 6086, of its legacy use): ``application/dtmf-relay`` and ``application/dtmf``, both ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agentstream.sip.events import DigitReceived, InfoAnswered
from agentstream.sip.grammar import parse_number
from agentstream.sip.hop import Hop
from agentstream.sip.message import Response
from agentstream.sip.transactions import ClientTransaction, ServerTransaction, Transaction

if TYPE_CHECKING:
    from agentstream.sip.session import Session

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"
USUAL_MS = 100
"""What a digit lasts that says nothing of it."""
LONGEST_MS = 10_000
DIGITS = "0123456789*#ABCD"

_SIGNAL = re.compile(rb"(?im)^\s*signal\s*=\s*(\S+)\s*$")
_DURATION = re.compile(rb"(?im)^\s*duration\s*=\s*([0-9]+)\s*$")


def read_digit(content_type: str, body: bytes) -> tuple[str, int] | None:
    """The digit and its duration in milliseconds; None where the body holds none."""
    duration_ms = USUAL_MS
    if content_type == RELAY:
        signal = _SIGNAL.search(body)
        text = signal[1] if signal is not None else b""
        duration = _DURATION.search(body)
        if duration is not None:
            duration_ms = parse_number(duration[1].decode("ascii", "replace"), LONGEST_MS) or USUAL_MS
    elif content_type == PLAIN:
        text = body.strip()
    else:
        return None
    # The events of RFC 4733 by their numbers are what some gateways write.
    digit = {b"10": "*", b"11": "#"}.get(text, text.decode("ascii", "replace").upper())
    return (digit, duration_ms) if len(digit) == 1 and digit in DIGITS else None


def write_digit(digit: str, duration_ms: int) -> bytes:
    """The body of an INFO with this digit."""
    return f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode()


class Infos:
    """INFO requests of one session."""

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session
        self._stack = session.stack

    def received(self, transaction: ServerTransaction, source: Hop, now: float) -> None:
        """One of the peer's: a digit is told, what is nothing is answered, and the rest is refused."""
        request, stack, session = transaction.request, self._stack, self._session
        found = read_digit(request.content_type, request.body)
        if found is not None and session is not None:
            stack.respond(transaction, 200, now)
            stack.events.append(DigitReceived(session, *found))
        elif "info-package" in request.headers:
            # RFC 6086 section 4.2.2: a package that Recv-Info did not name is answered 469.
            stack.refuse(transaction, 469, "no INFO package is served", now, source, [("Recv-Info", "")])
        elif request.body:
            accept = [("Accept", f"{RELAY}, {PLAIN}")]
            stack.refuse(transaction, 415, "the body holds no digit", now, source, accept)
        else:
            stack.respond(transaction, 200, now)

    def send(self, digit: str, duration_ms: int, now: float) -> None:
        """A digit of ours; ends with one InfoAnswered."""
        dialog = self._session.dialog if self._session is not None else None
        assert dialog is not None
        fields = [("Content-Type", RELAY)]
        self._stack.send_in_dialog(dialog, "INFO", now, self, fields, write_digit(digit, duration_ms))

    def response_received(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if response.status >= 200:
            self._answered(response.status, response.explain())

    def transaction_repeated(self, transaction: ClientTransaction, again: ClientTransaction) -> None:
        """Its answer is what counts."""

    def transaction_failed(self, transaction: ClientTransaction, status: int, now: float) -> None:
        self._answered(status, f"{status} no answer to our INFO")

    def transaction_ended(self, transaction: Transaction, now: float) -> None:
        """Its answer has been told."""

    def let_go(self) -> None:
        """The session is over: an answer that is still to come is nobody's."""
        self._session = None

    def _answered(self, status: int, reason: str) -> None:
        if self._session is not None:
            self._stack.events.append(InfoAnswered(self._session, status, reason))
