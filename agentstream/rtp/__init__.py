"""RTP, RTCP and telephone-events, pure (RFC 3550, RFC 4733)."""
