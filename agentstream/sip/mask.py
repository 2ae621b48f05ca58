"""A SIP message as it may be written down: without what would let its reader act as somebody else."""

from __future__ import annotations

import re

MASK = b"***"

_CREDENTIALS = re.compile(
    rb"^((?:proxy-)?(?:authorization|authentication-info)|identity|y)"
    rb"([ \t]*:[ \t]*(?:(?:digest|basic|bearer)\b[ \t]*)?)"
    rb"[^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*",
    re.IGNORECASE | re.MULTILINE,
)
_USER = re.compile(rb'\b(?:username|realm|uri|algorithm|qop|nc)[ \t]*=[ \t]*(?:"[^"\r\n]*"|[^\s,"]+)', re.IGNORECASE)
# The user part may hold ";", "," and "?" (RFC 3261 section 25.1).
_PASSWORD = re.compile(rb"(sips?:[^\s:@<>]{0,512}):[^\s@<>]{0,512}@", re.IGNORECASE)
_KEY = re.compile(
    rb"(\binline:)[^\s|;]+|(^(?:k=[a-z0-9]+:|a=key-mgmt:\S+[ \t]+))[^\r\n]+", re.IGNORECASE | re.MULTILINE
)


def mask(data: bytes) -> bytes:
    """The message with ``***`` for credentials, passwords in URIs, and keys of SRTP (RFC 4567, RFC 4568) and of ``k=``.

    Of digest credentials what says who and for what is kept: username, realm, uri, algorithm, qop and nc; what can be
    guessed at or used again (response, nonce, cnonce, opaque) is not. Any bytes are taken, broken messages too.
    """
    data = _CREDENTIALS.sub(_masked, data)
    data = _PASSWORD.sub(rb"\1:" + MASK + b"@", data)
    return _KEY.sub(lambda found: (found[1] or found[2]) + MASK, data)


def _masked(found: re.Match[bytes]) -> bytes:
    is_digest = b"digest" in found[2].lower()
    kept = [b" ".join(one.split()) for one in _USER.findall(found[0])] if is_digest else []
    return found[1] + found[2] + b", ".join([*kept, MASK])
