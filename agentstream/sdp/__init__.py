"""SDP and offer/answer, pure (RFC 8866, RFC 3264).

:func:`parse`, then :func:`answer_offer`; or :func:`make_offer`, then :func:`accept_answer`.

What cannot be read or served raises RemoteProtocolError with the status for the SIP response (400, 488) and the
sentence for its Warning.
"""

from __future__ import annotations

from agentstream.sdp.crypto import OFF, OPTIONAL, REQUIRED, Keys
from agentstream.sdp.description import Connection, MediaDescription, Origin, SessionDescription, parse
from agentstream.sdp.negotiation import (
    LocalMedia,
    MediaPlan,
    accept_answer,
    answer_offer,
    family_of,
    make_offer,
    revise,
)

__all__ = [
    "OFF",
    "OPTIONAL",
    "REQUIRED",
    "Connection",
    "Keys",
    "LocalMedia",
    "MediaDescription",
    "MediaPlan",
    "Origin",
    "SessionDescription",
    "accept_answer",
    "answer_offer",
    "family_of",
    "make_offer",
    "parse",
    "revise",
]
