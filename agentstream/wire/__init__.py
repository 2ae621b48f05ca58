"""WebSocket dialects: events to messages and back, pure."""
