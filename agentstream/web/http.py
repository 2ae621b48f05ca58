"""``/metrics``, ``/healthz`` and ``/readyz`` over twisted.web."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.pages import errorPage, notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Site

from agentstream.web.metrics import Gathered, NodeMetrics

IDLE_S = 10
"""A connection on which nothing is asked for so long is closed."""

Verdict = Callable[[], str]
"""Says in one sentence why not, or "" for yes."""


class NodeSite(Site):
    """Keeps no access log: its clock would be the reactor's, which is monotonic and no time of day."""

    noisy = False

    def startFactory(self) -> None:
        """No file is opened, and no clock ticks for its dates."""

    def stopFactory(self) -> None:
        """Nothing was begun."""

    def log(self, request: Request) -> None:
        """Nothing is logged for a request."""


class Page(Resource):
    """Something to look at, and nothing to change."""

    isLeaf = True

    def render(self, request: Request) -> Any:
        """405 for other methods than GET and HEAD."""
        if request.method in (b"GET", b"HEAD"):
            return super().render(request)  # type: ignore[no-untyped-call]
        request.setHeader(b"Allow", b"GET, HEAD")
        refusal: Any = errorPage(405, "Method Not Allowed", "This can be looked at, and no more.")
        return refusal.render(request)


class Answer(Page):
    """One line: 200 with ``ok``, or 503 with the reason."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._verdict = verdict

    def render_GET(self, request: Request) -> bytes:
        """What the node says of itself now."""
        reason = self._verdict()
        request.setResponseCode(503 if reason else 200)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        request.setHeader(b"Cache-Control", b"no-store")
        return f"{reason or 'ok'}\n".encode()


class Root(Resource):
    """What has the three below it, and nothing else."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        """There is none."""
        return notFound()


class Metrics(Page):
    """What Prometheus scrapes."""

    log = Logger()

    def __init__(self, clock: IReactorTime, metrics: NodeMetrics) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock = clock
        self._metrics = metrics

    def render_GET(self, request: Request) -> int:
        """Gathered over as many passes of the reactor as it takes."""
        is_gone: list[Failure] = []
        request.notifyFinish().addErrback(is_gone.append)
        slices = self._metrics.gather()

        def step() -> None:
            if is_gone:
                return
            try:
                gathered = next(slices)
                if gathered is None:
                    self._clock.callLater(0, step)
                else:
                    self._finish(request, gathered)
            except Exception:
                self.log.failure("the metrics could not be told")
                request.setResponseCode(500)
                request.finish()

        step()
        return NOT_DONE_YET

    def _finish(self, request: Request, gathered: Gathered) -> None:
        page = self._metrics.exposition(gathered)
        request.setHeader(b"Content-Type", CONTENT_TYPE_LATEST.encode("ascii"))
        request.setHeader(b"Content-Length", str(len(page)).encode("ascii"))
        request.write(page)
        request.finish()


def node_site(reactor: Any, metrics: NodeMetrics, is_healthy: Verdict, is_ready: Verdict) -> Site:
    """Everything that is served."""
    root = Root()  # type: ignore[no-untyped-call]
    root.putChild(b"metrics", Metrics(reactor, metrics))
    root.putChild(b"healthz", Answer(is_healthy))
    root.putChild(b"readyz", Answer(is_ready))
    return NodeSite(root, reactor=reactor, timeout=IDLE_S)  # type: ignore[no-untyped-call]
