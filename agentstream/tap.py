"""``twistd agentstream``: its options and its service. The config is read and checked before anything opens."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.application.service import IService
from twisted.python import usage

from agentstream.errors import ConfigError
from agentstream.flow.loader import SAMPLE, Loaded, load
from agentstream.service import NodeService


class Options(usage.Options):
    """The options of ``twistd agentstream``."""

    synopsis = "[options]"
    longdesc = (
        "Answers SIP calls and connects them to voice bots over WebSockets, as the config file says. Without --config"
        " it serves the packaged sample: loopback only, sip:1000@127.0.0.1 is answered by an echo bot."
    )
    optParameters = [  # noqa: RUF012 - Twisted's own form
        ["config", "c", None, "The config file (TOML); `agentstream check FILE` tells what is wrong with one."],
    ]
    loaded: Loaded

    def postOptions(self) -> None:
        """Read and check the config: every mistake at once, and exit status 1."""
        file = Path(self["config"]).absolute() if self["config"] else SAMPLE
        try:
            self.loaded = load(file)
        except ConfigError as error:
            for problem in error.problems:
                print(f"error: {problem}", file=sys.stderr)
            raise SystemExit(1) from None


def makeService(options: Options) -> IService:
    """The node's one service; it opens nothing before it is started."""
    from twisted.internet import reactor

    service: IService = NodeService(reactor, options.loaded)
    return service
