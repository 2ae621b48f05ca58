"""Asking who is at the far end to go elsewhere: a REFER of ours, and what becomes of it (RFC 3515)."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from agentstream.interfaces import TransferEnd
from agentstream.net.edge import SipEdge
from agentstream.sip.grammar import format_host
from agentstream.sip.session import Session
from agentstream.sip.uri import Uri, parse_uri


def target_uri(target: str, theirs: Uri, signalling_host: str) -> Uri:
    """A bare number is one of the far end's own domain, or of where it is: who wants to be nobody says none that there
    is (RFC 3323 section 4.1.1.3, RFC 2606). Raises RemoteProtocolError for what is no URI."""
    if target.lower().startswith(("sip:", "sips:", "tel:")):
        return parse_uri(target)
    is_said = bool(theirs.host) and not theirs.host.lower().endswith(".invalid")
    return parse_uri(f"sip:{target}@{format_host(theirs.host if is_said else signalling_host)}")


def not_sent(sentence: str) -> Deferred[TransferEnd]:
    """The end of a transfer for which no REFER has left."""
    return succeed(TransferEnd(False, 0, sentence))


@attrs.define(eq=False)
class Referral:
    """Those of one leg, one at a time."""

    _waiting: Deferred[TransferEnd] | None = None

    @property
    def is_under_way(self) -> bool:
        return self._waiting is not None

    def begin(self, edge: SipEdge, session: Session, uri: Uri, ours: Uri, timeout_s: float) -> Deferred[TransferEnd]:
        """Send it; ``ours`` is who refers (RFC 3892)."""
        waiting: Deferred[TransferEnd] = Deferred()
        self._waiting = waiting
        edge.refer(session, uri, f"<{attrs.evolve(ours, headers='')}>", timeout_s)
        return waiting

    def end(self, call: Any, status: int, reason: str) -> None:
        """The far end has got there, or it has not. Harmless where nobody waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            end = TransferEnd(200 <= status < 300, status, reason)
            call.event("transfer_ended", is_done=end.is_done, status=status, reason=reason)
            waiting.callback(end)
