"""SIP as pure state machines: bytes and now in; bytes, events and deadlines out (RFC 3261)."""
