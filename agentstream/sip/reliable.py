"""Reliable provisional responses (RFC 3262), as UAS: repeated until their PRACK, one at a time; and those of a callee.

They are what makes a description in a 183 one that both sides know of: a 2xx waits for the PRACK of such a one.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from typing import TYPE_CHECKING

import attrs

from agentstream.sip.grammar import parse_number
from agentstream.sip.headers import Headers
from agentstream.sip.timers import T1, Deadline
from agentstream.sip.transactions import InviteServerTransaction, ServerTransaction

if TYPE_CHECKING:
    from agentstream.sip.uas import IncomingSession

TAG = "100rel"
RSEQ_LIMIT = 2**31 - 1
RACK = re.compile(r"\s*([0-9]{1,10})\s+([0-9]{1,10})\s+(\S+)\s*")

AT_LEAST_EVERY_S = 150
"""Section 3: "If the UAS plans to send ... reliable provisional responses ... every two and a half minutes"."""


def read_rack(headers: Headers) -> tuple[int, int, str] | None:
    """RSeq, CSeq number and method of a PRACK's RAck (section 7.2)."""
    match = RACK.fullmatch(headers.get("rack") or "")
    return (int(match[1]), int(match[2]), match[3]) if match is not None else None


def read_rseq(headers: Headers) -> int | None:
    """The number of a response that wants PRACK; None for one that does not (section 4)."""
    if TAG not in headers.tokens_of("require"):
        return None
    return parse_number((headers.get("rseq") or "").strip(), 2**32 - 1)


@attrs.frozen
class Provisional:
    """One that is to be sent."""

    status: int
    fields: list[tuple[str, str]]
    sdp: bytes


@attrs.define(eq=False)
class _Unacknowledged:
    """The one that waits for its PRACK."""

    data: bytes
    rseq: int
    has_sdp: bool
    interval: float = T1


class ReliableProvisionals:
    """Those of one session that came in.

    :ivar is_described: one of them held our answer: the 2xx need not say it again.
    """

    def __init__(self, session: IncomingSession) -> None:
        self._session = session
        self._stack = session.stack
        # Section 3: "The RSeq value for the first such response ... SHOULD be chosen uniformly from 1 to 2**31 - 1".
        self._rseq = 1 + zlib.crc32(session.stack.token().encode()) % (RSEQ_LIMIT // 2)
        self._queue: deque[Provisional] = deque()
        self._unacknowledged: _Unacknowledged | None = None
        self._transaction: InviteServerTransaction | None = None
        self._cseq = session.request.cseq.number
        self.is_described = False
        self.deadlines: dict[str, Deadline] = {}

    @property
    def holds_description(self) -> bool:
        """A description of ours is on its way, or will be, and no PRACK has shown that it is there."""
        waiting = self._unacknowledged
        return (waiting is not None and waiting.has_sdp) or any(one.sdp for one in self._queue)

    def send(self, transaction: InviteServerTransaction, provisional: Provisional, now: float) -> None:
        """Send one, or keep it until the one before has its PRACK (section 3: "The UAS MUST NOT send a second reliable
        provisional response until the first is acknowledged")."""
        self._transaction = transaction
        self._queue.append(provisional)
        if self._unacknowledged is None:
            self._send_next(now)

    def _send_next(self, now: float) -> None:
        one, transaction, session = self._queue.popleft(), self._transaction, self._session
        assert transaction is not None and session.dialog is not None
        self._rseq += 1
        fields = [*one.fields, ("Require", TAG), ("RSeq", str(self._rseq))]
        if one.sdp:
            self.is_described = True
            fields.append(("Content-Type", "application/sdp"))
        data = self._stack.respond(
            transaction, one.status, now, to_tag=session.dialog.local_tag, headers=fields, body=one.sdp
        )
        self._unacknowledged = _Unacknowledged(data, self._rseq, bool(one.sdp))
        # "retransmitted with an exponential backoff ... starts at T1 seconds and doubles for each retransmission".
        self._stack.timers.set(self, "1xx", now + T1)
        self._stack.timers.set(self, "no PRACK", now + 64 * T1)

    def acknowledged(self, transaction: ServerTransaction, now: float) -> bool:
        """A PRACK; False where it acknowledges nothing of ours."""
        waiting = self._unacknowledged
        if waiting is None or read_rack(transaction.request.headers) != (waiting.rseq, self._cseq, "INVITE"):
            return False
        self._unacknowledged = None
        self._stack.timers.cancel_all(self)
        return True

    def go_on(self, now: float) -> None:
        """Behind a PRACK: the next one."""
        if self._queue and self._unacknowledged is None:
            self._send_next(now)

    def stop(self) -> None:
        """There is a final response: nothing is repeated any more, and a PRACK that is still to come is answered."""
        self._queue.clear()
        self._stack.timers.cancel_all(self)

    def timer_fired(self, letter: str, now: float) -> None:
        waiting, transaction = self._unacknowledged, self._transaction
        if waiting is None or transaction is None:
            return
        if letter == "1xx":
            self._stack.out.append((waiting.data, transaction.hop))
            waiting.interval *= 2
            self._stack.timers.set(self, "1xx", now + waiting.interval)
        else:
            self._session.was_not_acknowledged(now)
