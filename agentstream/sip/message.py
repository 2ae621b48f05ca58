"""Requests and responses (RFC 3261 section 7), and the bytes of those that we send.

What :mod:`agentstream.sip.parser` makes of bytes has its header lines taken apart and no more; every value is parsed
when it is asked for and kept. Text is UTF-8; a message that is not is read as Latin-1, and what answers it is written
as Latin-1, so every byte comes back as it came.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import parse_number, split_outside
from agentstream.sip.headers import (
    CSeq,
    Headers,
    NameAddr,
    Reason,
    Via,
    parse_cseq,
    parse_name_addr,
    parse_reason,
    parse_via,
    stamp_via,
)
from agentstream.sip.hop import Hop
from agentstream.sip.uri import Uri, parse_uri

BODY_LIMIT = 16_384
"""Octets of body; more is answered 413."""
URI_LIMIT = 2048
"""Characters of a Request-URI; more is answered 414."""

COPIED = ("From", "To", "Call-ID", "CSeq")
"""What a response has from its request, beside Via (RFC 3261 section 8.2.6.2)."""
PHRASES = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    469: "Bad Info Package",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}


class _Message:
    """What requests and responses share. Values are parsed at the first look and kept in ``_parsed``."""

    __slots__ = ("_parsed", "body", "encoding", "headers")

    def __init__(self, headers: Headers, body: bytes, encoding: str) -> None:
        self.headers = headers
        self.body = body
        self.encoding = encoding
        self._parsed: dict[str, object] = {}

    def _one(self, name: str, label: str) -> str:
        values = self.headers.get_all(name)
        if len(values) != 1:
            raise RemoteProtocolError(f"the {label} header is {'repeated' if values else 'missing'}", 400)
        return values[0]

    def _name_addr(self, name: str, label: str) -> NameAddr:
        value = self._parsed.get(name)
        if value is None:
            value = self._parsed[name] = parse_name_addr(self._one(name, label))
        assert isinstance(value, NameAddr)
        return value

    @property
    def from_(self) -> NameAddr:
        return self._name_addr("from", "From")

    @property
    def to(self) -> NameAddr:
        return self._name_addr("to", "To")

    @property
    def cseq(self) -> CSeq:
        value = self._parsed.get("cseq")
        if value is None:
            value = self._parsed["cseq"] = parse_cseq(self._one("cseq", "CSeq"))
        assert isinstance(value, CSeq)
        return value

    @property
    def call_id(self) -> str:
        value = self._parsed.get("call-id")
        if value is None:
            value = self._one("call-id", "Call-ID").strip()
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise RemoteProtocolError("the Call-ID is not a word", 400)
            self._parsed["call-id"] = value
        assert isinstance(value, str)
        return value

    @property
    def via_text(self) -> str:
        """The topmost Via value, unparsed."""
        value = self.headers.get("via")
        if value is None:
            raise RemoteProtocolError("the Via header is missing", 400)
        return split_outside(value, ",")[0] if "," in value else value

    @property
    def via(self) -> Via:
        """The topmost Via value."""
        value = self._parsed.get("via")
        if value is None:
            value = self._parsed["via"] = parse_via(self.via_text)
        assert isinstance(value, Via)
        return value

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None where there is none or it is ``*``."""
        if "contact" in self._parsed:
            value = self._parsed["contact"]
            assert value is None or isinstance(value, NameAddr)
            return value
        texts = self.headers.values_of("contact")
        contact = parse_name_addr(texts[0]) if texts and texts[0] != "*" else None
        self._parsed["contact"] = contact
        return contact

    @property
    def reason(self) -> Reason | None:
        """The first Reason (RFC 3326) that can be read; a bad one is nobody's reason to refuse."""
        try:
            texts = self.headers.values_of("reason")
            return parse_reason(texts[0]) if texts else None
        except RemoteProtocolError:
            return None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """All of them that can be read, as a gateway that says both the SIP status and the Q.850 cause has them."""
        try:
            return tuple(parse_reason(text) for text in self.headers.values_of("reason")[:4])
        except RemoteProtocolError:
            return ()

    @property
    def content_type(self) -> str:
        """``type/subtype`` in lower case; "" where there is none."""
        return "".join((self.headers.get("content-type") or "").partition(";")[0].split()).lower()

    @property
    def sdp(self) -> bytes:
        """The session description in the body, also where it is one part of a multipart (as SIP-I carriers send);
        else b""."""
        if not self.body:
            return b""
        kind = self.content_type
        if kind == "application/sdp" or (not kind and self.body.startswith(b"v=0")):
            return self.body
        if kind.startswith("multipart/"):
            return _sdp_part(self.headers.get("content-type") or "", self.body)
        return b""

    @property
    def is_body_optional(self) -> bool:
        """The body may be left unread (Content-Disposition's handling=optional, RFC 3261 section 8.2.3)."""
        parameters = (self.headers.get("content-disposition") or "").lower().split(";")[1:]
        return any("".join(parameter.split()) == "handling=optional" for parameter in parameters)


class Request(_Message):
    """One request.

    :ivar uri_text: the Request-URI as received; :attr:`uri` is the parsed form.
    :ivar reply_via: the topmost Via header line as responses carry it, set by :meth:`stamp`.
    """

    __slots__ = ("method", "reply_via", "uri_text", "version")

    def __init__(
        self,
        method: str,
        uri_text: str,
        headers: Headers,
        body: bytes = b"",
        encoding: str = "utf-8",
        version: str = "2.0",
    ) -> None:
        super().__init__(headers, body, encoding)
        self.method = method
        self.uri_text = uri_text
        self.version = version
        self.reply_via: str | None = None

    @property
    def uri(self) -> Uri:
        value = self._parsed.get("uri")
        if value is None:
            value = self._parsed["uri"] = parse_uri(self.uri_text)
        assert isinstance(value, Uri)
        return value

    @property
    def is_secure(self) -> bool:
        """Whether its dialog wants a sips URI of ours as Contact: it has one itself, as Request-URI or where RFC 3261
        section 12.1.1 says."""
        if self.uri.scheme == "sips":
            return True
        try:
            routes = self.headers.values_of("record-route")
            other = parse_name_addr(routes[0]) if routes else self.contact
        except RemoteProtocolError:
            return False
        return other is not None and other.uri.scheme == "sips"

    def stamp(self, source: Hop) -> None:
        """Note in the Via of the responses where the request came from (RFC 3261 18.2.1, RFC 3581 section 4)."""
        try:
            value = self.headers.get("via")
            if value is None:
                return
            parts = split_outside(value, ",")
            parts[0] = stamp_via(parts[0], source.host, source.port)
            self.reply_via = ", ".join(parts)
        except RemoteProtocolError:
            self.reply_via = None

    def check(self) -> None:
        """Raise RemoteProtocolError (400, 413, 414, 505) for what RFC 3261 sections 8.1.1 and 8.2 do not allow in any
        request."""
        if self.version != "2.0":
            raise RemoteProtocolError("the SIP version is not 2.0", 505)
        if len(self.uri_text) > URI_LIMIT:
            raise RemoteProtocolError("the Request-URI is longer than 2048 characters", 414)
        _ = self.via
        _ = self.from_
        _ = self.to
        _ = self.call_id
        # RFC 3261 section 8.1.1.5: "The method MUST match that of the request."
        if self.cseq.method != self.method:
            raise RemoteProtocolError("the CSeq names another method", 400)
        if self.uri.headers:
            # RFC 3261 section 19.1.1, table 1: headers are not allowed in the Request-URI.
            raise RemoteProtocolError("the Request-URI holds headers", 400)
        hops = self.headers.get_all("max-forwards")
        if hops and (len(hops) > 1 or parse_number(hops[0].strip(), 255) is None):
            raise RemoteProtocolError("Max-Forwards is not one number from 0 to 255", 400)
        _ = self.contact
        if len(self.body) > BODY_LIMIT:
            raise RemoteProtocolError("the body is longer than 16 kB", 413)

    def serialise(self) -> bytes:
        """The request's bytes; Content-Length is added here."""
        lines = [f"{self.method} {self.uri_text} SIP/2.0"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode(self.encoding, "replace") + self.body


class Response(_Message):
    """One response."""

    __slots__ = ("phrase", "status")

    def __init__(self, status: int, phrase: str, headers: Headers, body: bytes = b"", encoding: str = "utf-8") -> None:
        super().__init__(headers, body, encoding)
        self.status = status
        self.phrase = phrase

    def explain(self) -> str:
        """One line for the operator: status, phrase, and what Warning or Reason add."""
        text = f"{self.status} {self.phrase}".strip()
        warning = self.headers.get("warning")
        reason = self.reason
        if warning is not None:
            return f"{text} ({warning})"
        return f"{text} ({reason})" if reason is not None else text


def _sdp_part(content_type: str, body: bytes) -> bytes:
    """The application/sdp part of a multipart body (RFC 2046 section 5.1), or b""."""
    boundary = ""
    for piece in content_type.split(";")[1:]:
        name, _, value = piece.partition("=")
        if name.strip().lower() == "boundary":
            boundary = value.strip().strip('"')
    if not boundary:
        return b""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode("utf-8", "replace"))[1:]:
        head, gap, content = part.partition(b"\r\n\r\n")
        if gap and any(
            line.lower().startswith(b"content-type:") and b"application/sdp" in line.lower()
            for line in head.split(b"\r\n")
        ):
            return content
    return b""


def build_response(
    request: Request,
    status: int,
    *,
    to_tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    phrase: str = "",
) -> bytes:
    """A response: the request's Via, From, Call-ID, CSeq and To as received (RFC 3261 section 8.2.6.2), plus the tag.

    Works for broken requests too, with what they have.
    """
    lines = [f"SIP/2.0 {status} {phrase or PHRASES.get(status, 'Unknown')}"]
    fields = request.headers
    vias = fields.get_all("via")
    if vias:
        lines.append(f"Via: {request.reply_via or vias[0]}")
        lines += [f"Via: {via}" for via in vias[1:]]
    # 8.2.6.1: "When a 100 (Trying) response is generated, any Timestamp header field present in the request MUST be
    # copied into this 100 (Trying) response."
    for name in (*COPIED, "Timestamp") if status == 100 else COPIED:
        value = fields.get(name)
        if value is None:
            continue
        if name == "To" and to_tag and not _has_tag(request):
            value = f"{value};tag={to_tag}"
        lines.append(f"{name}: {value}")
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode(request.encoding, "replace") + body


def _has_tag(request: Request) -> bool:
    try:
        return bool(request.to.tag)
    except RemoteProtocolError:
        return True
