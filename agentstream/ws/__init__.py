"""WebSocket connections to bots: the edge around agentstream.wire."""
