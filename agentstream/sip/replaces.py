"""One call leg in the place of another (RFC 3891): the Replaces header, and the session that it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from agentstream.errors import LocalProtocolError, RemoteProtocolError
from agentstream.sip.dialog import Dialog, DialogKey
from agentstream.sip.grammar import is_token, parse_parameters
from agentstream.sip.headers import Headers
from agentstream.sip.uri import Uri

if TYPE_CHECKING:
    from agentstream.sip.session import Session

_UNESCAPED = "[]/?:+$-_.!~*'()"
"""What stands for itself in a header of a URI, beside letters and digits (RFC 3261 section 25.1, hvalue)."""


@attrs.frozen
class Replaces:
    """A dialog, as the side that is asked to replace it sees it.

    :ivar to_tag: that side's own tag. :ivar from_tag: the other one's.
    :ivar is_early_only: it is replaced only while it has no answer.
    """

    call_id: str
    to_tag: str
    from_tag: str
    is_early_only: bool = False

    def __str__(self) -> str:
        tail = ";early-only" if self.is_early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{tail}"


def parse_replaces(text: str) -> Replaces:
    """One Replaces value (section 6.1); RemoteProtocolError (400) where it is none."""
    call_id, semicolon, tail = text.strip().partition(";")
    call_id = call_id.strip()
    parameters = parse_parameters(semicolon + tail)
    to_tag, from_tag = parameters.get("to-tag") or "", parameters.get("from-tag") or ""
    is_word = bool(call_id) and call_id.isascii() and call_id.isprintable() and " " not in call_id
    if not is_word or not is_token(to_tag) or not is_token(from_tag):
        raise RemoteProtocolError("Replaces is not a Call-ID with a to-tag and a from-tag", 400)
    return Replaces(call_id, to_tag, from_tag, "early-only" in parameters)


def read_replaces(headers: Headers) -> Replaces | None:
    """The Replaces of an INVITE; None where it has none."""
    values = headers.get_all("replaces")
    if not values:
        return None
    # Section 3: "If more than one Replaces header field is present in an INVITE ... the UAS MUST reject the request
    # with a 400 Bad Request response."; and "If both a Replaces header field and another header field with
    # contradictory semantics are present in a request, the request MUST be rejected with a 400".
    if len(values) > 1:
        raise RemoteProtocolError("there is more than one Replaces header", 400)
    if "join" in headers:
        raise RemoteProtocolError("Replaces and Join contradict each other", 400)
    return parse_replaces(values[0])


def replacing(dialog: Dialog) -> Replaces:
    """What whoever is to take this dialog of ours over says to its peer."""
    return Replaces(dialog.call_id, dialog.remote_tag, dialog.local_tag)


def find_replaced(dialogs: Mapping[DialogKey, tuple[Session, Dialog]], replaces: Replaces) -> Session:
    """The session that is to be replaced; RemoteProtocolError with the status of section 3 where there is none."""
    found = dialogs.get((replaces.call_id, replaces.to_tag, replaces.from_tag))
    if found is None:
        # "If no match is found, the UAS rejects the INVITE and returns a 481 Call/Transaction Does Not Exist".
        raise RemoteProtocolError("there is no such call to replace", 481)
    session = found[0]
    if session.is_over:
        # "If the Replaces header field matches a dialog which has already terminated, the UA SHOULD decline the
        # request with a 603 Declined response."
        raise RemoteProtocolError("the call that would be replaced is over", 603)
    if session.is_up:
        # "If the flag is present, the UA rejects the request with a 486 Busy response."
        if replaces.is_early_only:
            raise RemoteProtocolError("the call that would be replaced has been answered", 486)
    elif session.is_incoming:
        # "If the Replaces header field matches an early dialog that was not initiated by this UA, it returns a 481".
        raise RemoteProtocolError("the call that would be replaced is not answered yet", 481)
    return session


def require_up(session: Session) -> Replaces:
    """What an attended transfer says of the session that its target is in."""
    return replacing(_dialog_of(session))


def refer_to(session: Session) -> Uri:
    """Where an attended transfer sends somebody who shall have our place in the session (RFC 5589 section 7): the
    Contact of its peer, with Replaces among the headers of the URI."""
    replaces = quote(str(require_up(session)), safe=_UNESCAPED)
    return attrs.evolve(_dialog_of(session).remote_target, headers=f"Replaces={replaces}")


def _dialog_of(session: Session) -> Dialog:
    if session.dialog is None or not session.is_up:
        raise LocalProtocolError("a session that is not up has nothing to replace")
    return session.dialog
