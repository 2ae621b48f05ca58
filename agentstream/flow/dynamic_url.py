"""Asking a server where the bot of a call is: GET with the call's details, answered with ``{"url": "wss://..."}``.

Everything that can go wrong is a StreamFailed with a fixed sentence. The first URL is the operator's own and trusted;
what the answers name, redirects and the bot itself, is somebody else's choice.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import attrs
import orjson
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IResponse
from zope.interface import implementer

from agentstream.errors import StreamFailed
from agentstream.flow.frames import forget_frames
from agentstream.ws.addresses import NOT_PUBLIC, AddressRefused
from agentstream.ws.connect import EndpointFactory, public_endpoint, tcp_endpoint
from agentstream.ws.trust import client_tls
from agentstream.ws.url import StreamUrl, split_http_url, split_url

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_REDIRECTS = 5

NO_SUCH_HOST = "The host of the HTTP URL could not be resolved."
CONNECTION_REFUSED = "The port of the HTTP URL refused the connection."
UNREACHABLE = "The HTTP URL could not be reached."
TLS_FAILED = "TLS with the HTTP URL failed: its certificate is not trusted or for another host, or it speaks no TLS."
TOO_SLOW = f"The HTTP URL did not answer in {TIMEOUT_S:g} s."
TOO_LONG = "The HTTP URL answered with more than 64 kB."
BROKEN_OFF = "The HTTP URL broke its answer off, or it was no HTTP."
STATUS = "The HTTP URL answered with status {}, expected 200."
NO_LOCATION = "The HTTP URL redirects to nowhere."
TOO_MANY_REDIRECTS = "The HTTP URL redirects more than 5 times."
LESS_SECURE = "The HTTP URL redirects from https to http."
BAD_REDIRECT = "The HTTP URL redirects to what is no URL that can be asked: {}"
NOT_JSON = 'The answer of the HTTP URL is no JSON object with a "url" that is a string.'
BAD_ANSWER = "The answer of the HTTP URL names a bot's URL that cannot be used: {}"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def call_query(
    call_sid: str, caller: str, callee: str, created: datetime.datetime, now: datetime.datetime
) -> list[tuple[str, str]]:
    """What the server is told about a call that came in; both times in the account's time zone."""
    day, month = _DAYS[created.weekday()], _MONTHS[created.month - 1]
    return [
        ("CallSid", call_sid),
        ("CallFrom", caller),
        ("CallTo", callee),
        ("Direction", "incoming"),
        ("Created", f"{day}, {created.day:02} {month} {created.year} {created:%H:%M:%S}"),
        ("DialWhomNumber", ""),
        ("HangupLatencyStartTimeExocc", ""),
        ("HangupLatencyStartTime", ""),
        ("ServerCode", ""),
        ("From", caller),
        ("To", callee),
        ("CurrentTime", f"{now:%Y-%m-%d %H:%M:%S}"),
    ]


def with_query(url: str, items: list[tuple[str, str]]) -> str:
    """The URL with these items behind its own query, which stays byte for byte."""
    glue = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return url + glue + urlencode(items, quote_via=quote, errors="replace")


def ask_for_url(
    reactor: Any,
    url: str,
    items: list[tuple[str, str]],
    *,
    ca_file: Path | None = None,
    allow_private: bool = False,
    trusted_endpoint: EndpointFactory = tcp_endpoint,
    public_endpoint: EndpointFactory = public_endpoint,
) -> Deferred[StreamUrl]:
    """Fires with the bot's URL; errbacks with StreamFailed within TIMEOUT_S. Cancelling gives up.

    :param url: ``http://`` or ``https://``; its userinfo becomes Basic auth and goes to no other server.
    :param items: appended to its query; a redirect says itself what it is asked.
    :param allow_private: redirects may lead to addresses that are not public. (Who connects to the bot asks again.)
    """
    redirected_endpoint = trusted_endpoint if allow_private else public_endpoint

    async def ask() -> StreamUrl:
        asked = with_query(url, items)
        where = split_http_url(asked)
        authorization, origin = where.authorization, _origin(where)
        endpoint = trusted_endpoint
        for _ in range(MAX_REDIRECTS + 1):
            if not where.authorization and _origin(where) == origin:
                where = attrs.evolve(where, authorization=authorization)
            status, location, body = await _get(reactor, where, endpoint, ca_file)
            if status == 200:
                return _read(body)
            if status not in _REDIRECTS:
                raise StreamFailed(STATUS.format(status))
            before, where = where, _redirected(where, location)
            if before.is_secure and not where.is_secure:
                raise StreamFailed(LESS_SECURE)
            endpoint = redirected_endpoint
        raise StreamFailed(TOO_MANY_REDIRECTS)

    return Deferred.fromCoroutine(ask()).addTimeout(TIMEOUT_S, reactor, _on_timeout).addErrback(forget_frames)


def _on_timeout(result: object, timeout_s: float) -> Any:
    raise StreamFailed(TOO_SLOW)


def _origin(url: StreamUrl) -> tuple[str, str, int]:
    return url.scheme, url.host.lower(), url.port


def _redirected(url: StreamUrl, location: str) -> StreamUrl:
    if not location:
        raise StreamFailed(NO_LOCATION)
    try:
        return split_http_url(urljoin(url.public, location.partition("#")[0]))
    except ValueError:
        raise StreamFailed(NO_LOCATION) from None
    except StreamFailed as error:
        raise StreamFailed(BAD_REDIRECT.format(error.reason)) from None


def _read(body: bytes) -> StreamUrl:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise StreamFailed(NOT_JSON) from None
    found = answer.get("url") if type(answer) is dict else None
    if type(found) is not str:
        raise StreamFailed(NOT_JSON)
    try:
        return split_url(found.strip())
    except StreamFailed as error:
        raise StreamFailed(BAD_ANSWER.format(error.reason)) from None


async def _get(reactor: Any, url: StreamUrl, endpoint: EndpointFactory, ca_file: Path | None) -> tuple[int, str, bytes]:
    """Status, Location and body of one GET."""
    headers = Headers({"User-Agent": ["agentstream"], "Accept": ["application/json"]})
    if url.authorization:
        headers.addRawHeader("Authorization", url.authorization)
    endpoints = _Endpoints(reactor, url, endpoint, ca_file)
    # A client of its own for each GET: cookies of one call are nobody else's.
    client = HTTPClient(_PlainAgent(Agent.usingEndpointFactory(reactor, endpoints)))
    try:
        response: Any = await client.get(
            url.public, headers=headers, allow_redirects=False, unbuffered=True, reactor=reactor
        )
        body = await _body_of(response) if response.code == 200 else b""
        return response.code, _location(response), body
    except (StreamFailed, CancelledError):
        raise
    except Exception as error:
        raise _meaning(error) from None
    finally:
        # Whatever else it wants to say, and however slowly it closes.
        endpoints.close()


def _location(response: Any) -> str:
    values = response.headers.getRawHeaders(b"location", [])
    return values[0].decode("latin-1") if values else ""


def _meaning(error: Exception) -> Exception:
    """What an exception of Twisted's HTTP client means; it wraps those of the connection in a list."""
    reasons = [error, *(failure.value for failure in getattr(error, "reasons", None) or ())]
    for reason in reasons:
        if isinstance(reason, CancelledError):
            return CancelledError()  # a new one: this one is held by what tells of it
        for kinds, sentence in _SENTENCES:
            if isinstance(reason, kinds):
                return StreamFailed(sentence)
    return StreamFailed(BROKEN_OFF if hasattr(error, "reasons") else UNREACHABLE)


_SENTENCES: tuple[tuple[Any, str], ...] = (
    (AddressRefused, NOT_PUBLIC),
    (DNSLookupError, NO_SUCH_HOST),
    (ConnectionRefusedError, CONNECTION_REFUSED),
    ((TLSError, VerificationError), TLS_FAILED),
)


def _body_of(response: Any) -> Deferred[bytes]:
    done: Deferred[bytes] = Deferred()
    response.deliverBody(_Body(done))
    return done


class _Body(Protocol):
    """Collects a body of bounded size."""

    def __init__(self, done: Deferred[bytes]) -> None:
        self._done: Deferred[bytes] | None = done
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MAX_ANSWER_BYTES:
            self._end(StreamFailed(TOO_LONG))

    def connectionLost(self, reason: Any = None) -> None:
        # A body without a length ends with the connection, as HTTP/1.0 has it.
        self._end(None if reason.check(ResponseDone, PotentialDataLoss) else StreamFailed(BROKEN_OFF))

    def _end(self, error: StreamFailed | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            if error is None:
                done.callback(self._data)
            else:
                done.errback(error)


@implementer(IAgent)
@attrs.frozen
class _PlainAgent:
    """Asks for no content coding and takes none: a small answer could be a large one in disguise."""

    agent: Agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[IResponse]:
        headers.removeHeader(b"accept-encoding")
        asked: Deferred[IResponse] = self.agent.request(method, uri, headers, bodyProducer)
        return asked.addCallback(self._uncoded)

    def _uncoded(self, response: Any) -> Any:
        response.headers.removeHeader(b"content-encoding")
        return response


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@attrs.define
class _Endpoints:
    """The way to the one URL of one GET.

    TLS is put on top here, on the reactor that is given; Twisted's own wrapper takes the process's.
    """

    reactor: Any
    url: StreamUrl
    endpoint: EndpointFactory
    ca_file: Path | None
    _tcp: Any = attrs.field(default=None, init=False)

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        """See IAgentEndpointFactory."""
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        factory = protocolFactory
        if self.url.is_secure:
            factory = TLSMemoryBIOFactory(client_tls(self.url.host, self.ca_file), True, protocolFactory, self.reactor)
            factory.noisy = False
        connecting: Deferred[Any] = self.endpoint(self.reactor, self.url).connect(factory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        self._tcp = protocol.transport
        return protocol.wrappedProtocol if self.url.is_secure else protocol

    def close(self) -> None:
        """Drop the connection, if it is still there."""
        if self._tcp is not None:
            self._tcp.abortConnection()
