"""A web server in memory: who is asked for a bot's URL, and whatever else a call may ask over HTTP.

What it answers is a function of the test's; so one that is slow, wrong or redirects is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


@attrs.frozen
class Asked:
    """One request.

    :ivar at: seconds of the reactor's clock.
    :ivar query: the values of each name in the query, blank ones too.
    :ivar headers: by lower-case name; of several the last.
    """

    at: float
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class Answer:
    """One response."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


class WebServer:
    """Listens and answers.

    :param answer: gives what to answer; None leaves the request without an answer for as long as anybody waits.
    :ivar asked: every request, in order.
    :ivar url: of its root.
    """

    def __init__(
        self, reactor: Any, answer: Callable[[Asked], Answer | None], *, host: str = "127.0.0.1", port: int = 8080
    ) -> None:
        self.asked: list[Asked] = []
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        self._reactor = reactor
        self._answer = answer
        site: Any = Site(_Root(self), reactor=reactor)
        site.noisy = False
        # What is asked for may hold a password, and this is not the server whose log is looked at.
        site.log = lambda request: None
        self._listener = reactor.listenTCP(port, site, interface=host)

    def stop(self) -> None:
        """Listen no more."""
        self._listener.stopListening()

    def respond(self, request: Any) -> Any:
        """Take one request of twisted.web's."""
        asked = Asked(
            self._reactor.seconds(),
            request.method.decode(),
            request.path.decode(),
            {name.decode(): [value.decode() for value in values] for name, values in request.args.items()},
            {name.decode().lower(): values[-1].decode() for name, values in request.requestHeaders.getAllRawHeaders()},
            request.content.read(),
        )
        self.asked.append(asked)
        answer = self._answer(asked)
        if answer is None:
            request.notifyFinish().addErrback(lambda failure: None)  # whoever waited has left
            return NOT_DONE_YET
        request.setResponseCode(answer.status)
        for name, value in answer.headers.items():
            request.setHeader(name.encode(), value.encode())
        return answer.body


class _Root(Resource):
    isLeaf = True

    def __init__(self, server: WebServer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._server = server

    def render(self, request: Request) -> Any:
        return self._server.respond(request)
