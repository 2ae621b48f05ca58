"""WebSocket connections to bots: the edge around agentstream.wire."""

from agentstream.ws.connect import connect_stream
from agentstream.ws.connection import IStreamPeer, StreamConnection, StreamCounters
from agentstream.ws.protocol import NO_NVX, nvx_in_use
from agentstream.ws.url import StreamUrl, split_url

__all__ = [
    "NO_NVX",
    "IStreamPeer",
    "StreamConnection",
    "StreamCounters",
    "StreamUrl",
    "connect_stream",
    "nvx_in_use",
    "split_url",
]
