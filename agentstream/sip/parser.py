"""Bytes to messages (RFC 3261 section 7): one datagram, or one message that a framer has cut out of a stream.

Only the start line is read and the header lines are taken apart; what they hold is parsed when it is asked for (see
:mod:`agentstream.sip.message`).
"""

from __future__ import annotations

import re

from agentstream.errors import RemoteProtocolError
from agentstream.sip.grammar import is_token, parse_number
from agentstream.sip.headers import KEYS, Headers
from agentstream.sip.message import Request, Response

HEAD_LIMIT = 32_768
"""Octets of start line and headers that are read; more is answered 513."""
HEADER_COUNT_LIMIT = 500

_STRAY_BREAK = re.compile(r"[\r\n]")
_FOLD = re.compile(r"\r\n[ \t]+")
_VERSION = re.compile(r"[Ss][Ii][Pp]/[0-9]+\.[0-9]+")


class MalformedRequest(RemoteProtocolError):
    """What was received is a request, but a broken one: :attr:`request` holds what could be read, to answer it."""

    def __init__(self, sentence: str, status: int, request: Request) -> None:
        super().__init__(sentence, status)
        self.request = request


def parse_message(data: bytes) -> Request | Response:
    """One datagram as a message.

    Raises MalformedRequest for a request that must be refused, RemoteProtocolError with status 0 for what has no
    answer.
    """
    # RFC 3261 section 7.5: "Implementations processing SIP messages over stream-oriented transports MUST ignore any
    # CRLF appearing before the start-line"; datagrams with them are seen as well.
    start = 0
    while data.startswith(b"\r\n", start):
        start += 2
    end = data.find(b"\r\n\r\n", start)
    sentence = ""
    status = 400
    if end < 0:
        sentence = "no empty line ends the headers"
        end = len(data)
        body = b""
    else:
        body = data[end + 4 :]
    if end - start > HEAD_LIMIT:
        sentence, status = "the headers are longer than 32 kB", 513
        end = start + HEAD_LIMIT
    encoding = "utf-8"
    try:
        text = str(data[start:end], "utf-8")
    except UnicodeDecodeError:
        encoding = "iso-8859-1"
        text = str(data[start:end], encoding)
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n")
    if len(lines) > HEADER_COUNT_LIMIT:
        sentence, status = "there are more than 500 header lines", 513
        del lines[HEADER_COUNT_LIMIT:]
    first = lines[0]
    headers = Headers()
    for index in range(1, len(lines)):
        line = lines[index]
        name, colon, value = line.partition(":")
        if name not in KEYS:
            name = name.rstrip(" \t")
        if not colon or (name not in KEYS and not is_token(name)):
            if line or index < len(lines) - 1:
                sentence = sentence or "a header line has no valid name"
            continue
        if "\n" in value or "\r" in value:
            sentence = sentence or "a header line holds a bare line break"
            continue
        headers.add(name, value.strip(" \t"))

    if first[:4].upper() == "SIP/":
        return _parse_response(first, headers, body, encoding, sentence)
    words = first.split()
    if len(words) < 3 or not words[-1][:4].upper() == "SIP/":
        raise RemoteProtocolError("the start line is not SIP")
    if _STRAY_BREAK.search(first) is not None:
        raise RemoteProtocolError("the start line holds a bare line break")
    pieces = first.split(" ")
    method = words[0]
    version = words[-1][4:]
    if len(pieces) != 3 or not is_token(method) or _VERSION.fullmatch(words[-1]) is None:
        # RFC 3261 section 7.1: one space between the three elements, "no LWS is allowed in any of the elements".
        sentence = sentence or "the request line is not a method, a URI and a version with one space between"
        version = "2.0"
    request = Request(method, words[1], headers, body, encoding, version)
    if not sentence:
        try:
            request.body = _framed(headers, body)
        except RemoteProtocolError as error:
            sentence = error.sentence
    if sentence:
        raise MalformedRequest(sentence, status, request)
    return request


def _framed(headers: Headers, body: bytes) -> bytes:
    """The body by its Content-Length; what follows it in a datagram is ignored (RFC 3261 section 18.3)."""
    lengths = headers.get_all("content-length")
    if not lengths:
        return body
    length = parse_number(lengths[0].strip(), 2**31)
    if length is None:
        raise RemoteProtocolError("the Content-Length is not a number", 400)
    if len(lengths) > 1 and any(other.strip() != lengths[0].strip() for other in lengths):
        raise RemoteProtocolError("there are two different Content-Length headers", 400)
    if length > len(body):
        raise RemoteProtocolError("the body is shorter than its Content-Length", 400)
    return body[:length]


def _parse_response(first: str, headers: Headers, body: bytes, encoding: str, sentence: str) -> Response:
    words = first.split(" ", 2)
    status = parse_number(words[1], 699) if len(words) > 1 and len(words[1]) == 3 else None
    if words[0].upper() != "SIP/2.0" or status is None or status < 100:
        raise RemoteProtocolError("the status line is not SIP/2.0 and a status")
    if sentence:
        raise RemoteProtocolError(sentence)
    try:
        body = _framed(headers, body)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(error.sentence) from None
    return Response(status, words[2] if len(words) > 2 else "", headers, body, encoding)
