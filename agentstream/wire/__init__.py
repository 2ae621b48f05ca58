"""WebSocket dialects: events to messages and back, pure."""

from agentstream.wire.exotel import ExotelSession, Spelling
from agentstream.wire.messages import Clear, Ignored, Mark, Media, Message, StreamStart
from agentstream.wire.numbering import Numbering
from agentstream.wire.parameters import StreamParameters, read_query
from agentstream.wire.sid import new_sid

__all__ = [
    "Clear",
    "ExotelSession",
    "Ignored",
    "Mark",
    "Media",
    "Message",
    "Numbering",
    "Spelling",
    "StreamParameters",
    "StreamStart",
    "new_sid",
    "read_query",
]
