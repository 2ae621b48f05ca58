"""How a stream comes to be: connect, TLS and handshake within one deadline, once more when that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from agentstream.errors import StreamFailed
from agentstream.ws.addresses import NOT_PUBLIC, AddressRefused, PublicEndpoint
from agentstream.ws.connection import Dialect, StreamConnection
from agentstream.ws.letting_go import LettingGo
from agentstream.ws.protocol import CLOSED_IN_HANDSHAKE, BotProtocol, client_factory
from agentstream.ws.reads import Reads
from agentstream.ws.trust import client_tls
from agentstream.ws.turns import ReadTurns, turns_of
from agentstream.ws.url import StreamUrl, split_url

NO_SUCH_HOST = "The bot's host name could not be resolved."
CONNECTION_REFUSED = "The bot's port refused the connection."
UNREACHABLE = "The bot could not be reached."
TLS_FAILED = "TLS with the bot failed: its certificate is not trusted, or it speaks no TLS."
WRONG_NAME = "The bot's certificate is for another host."
TOO_SLOW = "The bot did not finish the handshake in {:g} s."

EndpointFactory = Callable[[Any, StreamUrl], IStreamClientEndpoint]
"""``(reactor, url)`` to the TCP endpoint below; TLS is put on top of it here."""


def tcp_endpoint(reactor: Any, url: StreamUrl) -> IStreamClientEndpoint:
    """The TCP endpoint of a URL."""
    reactor = LettingGo(reactor)
    if isIPAddress(url.host):
        return TCP4ClientEndpoint(reactor, url.host, url.port)
    if isIPv6Address(url.host):
        return TCP6ClientEndpoint(reactor, url.host, url.port)
    # As bytes, because names of containers may hold underscores, which IDNA refuses.
    return HostnameEndpoint(reactor, url.host.encode("ascii"), url.port)


def public_endpoint(reactor: Any, url: StreamUrl) -> IStreamClientEndpoint:
    """The same, for a URL that somebody else has chosen: public addresses only."""
    return PublicEndpoint(reactor, url.host, lambda screened: tcp_endpoint(screened, url))


def connect_stream(
    reactor: Any,
    url: str | StreamUrl,
    dialect: Dialect,
    peer: object,
    *,
    ca_file: Path | None = None,
    handshake_timeout_s: float = 10.0,
    retries: int = 1,
    ping_interval_s: float = 20.0,
    ping_timeout_s: float = 10.0,
    endpoint_factory: EndpointFactory = tcp_endpoint,
    reads: Reads | None = None,
) -> Deferred[StreamConnection]:
    """Connect a bot, send ``connected`` and ``start``, and fire with the connection.

    :param dialect: a fresh session of a dialect; it is used for one stream.
    :param peer: an :class:`agentstream.ws.connection.IStreamPeer`. Called from when the Deferred fires.
    :param ca_file: certificates to trust for ``wss`` instead of the system's.
    :param handshake_timeout_s: seconds for connecting, TLS and the handshake together, anew for each attempt.
    :param reads: reads the open stream's socket once a tick; without it the reactor does, as bytes come.
    :param retries: how often a failed attempt is repeated.
    :return: errbacks with StreamFailed; cancelling it gives up at once.
    """

    async def connect() -> StreamConnection:
        where = split_url(url) if isinstance(url, str) else url
        tls = client_tls(where.host, ca_file) if where.is_secure else None
        endpoint = endpoint_factory(reactor, where)
        turns = turns_of(reactor)
        for left in range(retries, -1, -1):
            attempt = _Attempt(reactor, where, endpoint, tls, turns, handshake_timeout_s)
            try:
                protocol = await attempt.begin()
            except StreamFailed:
                if left == 0:
                    raise
            else:
                connection = StreamConnection(reactor, protocol, dialect, peer, ping_interval_s, ping_timeout_s)
                protocol.listener = connection
                connection.open()
                if reads is not None:
                    protocol.be_read_by(reads)
                return connection
        raise StreamFailed(UNREACHABLE)

    return Deferred.fromCoroutine(connect())


class _Attempt:
    """One try: an :class:`agentstream.ws.protocol.Listener` until the handshake is done."""

    def __init__(
        self,
        reactor: Any,
        url: StreamUrl,
        endpoint: IStreamClientEndpoint,
        tls: Any,
        turns: ReadTurns,
        timeout_s: float,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._endpoint = endpoint
        self._tls = tls
        self._turns = turns
        self._timeout_s = timeout_s
        self._result: Deferred[BotProtocol] | None = None
        self._connecting: Deferred[Any] | None = None
        self._deadline: IDelayedCall | None = None
        self._protocol: BotProtocol | None = None

    def begin(self) -> Deferred[BotProtocol]:
        """Fires with the protocol at the moment when the handshake is done; errbacks with StreamFailed."""
        result: Deferred[BotProtocol] = Deferred(self._cancelled)
        self._result = result
        self._deadline = self._reactor.callLater(self._timeout_s, self._too_slow)
        factory: Any = client_factory(self._reactor, self._url, self._turns, self)
        if self._tls is not None:
            # Not wrapClientTLS, which runs TLS on the process's reactor whatever reactor it is given.
            factory = TLSMemoryBIOFactory(self._tls, True, factory, self._reactor)
            factory.noisy = False
        self._connecting = self._endpoint.connect(factory)
        self._connecting.addCallbacks(self._connected, self._not_connected)
        return result

    def _connected(self, protocol: Any) -> None:
        self._connecting = None
        bot_protocol: BotProtocol = protocol if self._tls is None else protocol.wrappedProtocol
        self._protocol = bot_protocol
        if self._result is None:
            bot_protocol.abort()

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if failure.check(CancelledError):
            return
        if failure.check(AddressRefused):
            self._fail(NOT_PUBLIC)
        elif failure.check(DNSLookupError):
            self._fail(NO_SUCH_HOST)
        elif failure.check(ConnectionRefusedError):
            self._fail(CONNECTION_REFUSED)
        else:
            self._fail(UNREACHABLE)

    # agentstream.ws.protocol.Listener

    def opened(self, protocol: BotProtocol) -> None:
        result = self._settle()
        if result is not None:
            result.callback(protocol)

    def handshake_failed(self, sentence: str) -> None:
        self._fail(sentence)

    def lost(self, reason: Failure) -> None:
        if reason.check(VerificationError):
            self._fail(WRONG_NAME)
        elif reason.check(TLSError):
            self._fail(TLS_FAILED)
        else:
            self._fail(CLOSED_IN_HANDSHAKE)

    def life_shown(self) -> None:
        """Bytes are no handshake yet."""

    def message(self, payload: bytes, is_binary: bool) -> None:
        """Comes after opened, and by then the stream listens."""

    def ping(self, payload: bytes) -> None:
        """Comes after opened."""

    def close_frame(self, code: int, reason: str) -> None:
        """Comes after opened."""

    def violated(self, code: int, sentence: str) -> None:
        self._fail(sentence)

    # The end

    def _too_slow(self) -> None:
        self._deadline = None
        self._fail(TOO_SLOW.format(self._timeout_s))

    def _cancelled(self, result: Deferred[BotProtocol]) -> None:
        self._settle()
        self._give_up()

    def _fail(self, sentence: str) -> None:
        result = self._settle()
        self._give_up()
        if result is not None:
            result.errback(StreamFailed(sentence))

    def _settle(self) -> Deferred[BotProtocol] | None:
        result, self._result = self._result, None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return result

    def _give_up(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None:
            self._protocol.abort()
